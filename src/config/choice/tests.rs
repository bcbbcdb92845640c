//! The order of choice, case by case.

use super::*;

fn with_environment(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::ephemeral();
    settings.environment = pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    settings
}

#[test]
fn with_nothing_set_the_embedded_model_answers() {
    let choice = Settings::ephemeral().choose(None, None).unwrap();
    assert_eq!(
        (choice.provider.as_str(), choice.reason.as_str()),
        ("embedded", "nothing else is set")
    );
    assert_eq!(choice.instructions.as_deref(), Some(EMBEDDED_INSTRUCTIONS));
}

#[test]
fn the_samples_environment_leads_to_azures_assistants() {
    let settings = with_environment(&[
        ("ASSISTANT_ID", "asst_1"),
        ("AZURE_OPENAI_API_KEY", "k"),
        ("AZURE_OPENAI_API_VERSION", "2024-05-01-preview"),
        ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/"),
    ]);
    let choice = settings.choose(None, None).unwrap();
    assert_eq!(choice.provider_settings.dialect, Dialect::Assistants);
    assert_eq!(
        choice.provider_settings.base_url.as_deref(),
        Some("https://r.openai.azure.com/openai")
    );
    assert_eq!(
        choice.provider_settings.api_version.as_deref(),
        Some("2024-05-01-preview")
    );
    assert_eq!(choice.assistant_id.as_deref(), Some("asst_1"));
}

#[test]
fn a_bare_key_means_responses_and_another_base_url_chat() {
    let dialect = |pairs: &[(&str, &str)]| {
        with_environment(pairs)
            .choose(None, None)
            .unwrap()
            .provider_settings
            .dialect
    };
    assert_eq!(dialect(&[("OPENAI_API_KEY", "k")]), Dialect::Responses);
    assert_eq!(
        dialect(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]),
        Dialect::Chat
    );
}

fn found() -> Option<LocalServer> {
    Some(LocalServer {
        name: "ollama".into(),
        base_url: "http://127.0.0.1:11434/v1".into(),
        reason: "it answers".into(),
    })
}

#[test]
fn a_server_on_this_machine_answers_before_the_embedded_model() {
    let mut settings = Settings::ephemeral();
    assert!(settings.wants_local(None));
    assert!(settings.wants_local(Some("ollama")));
    assert!(!settings.wants_local(Some("embedded")), "it was named");
    settings.local = found();
    assert!(!settings.wants_local(None), "it is known by now");
    let choice = settings.choose(None, None).unwrap();
    assert_eq!(
        (choice.provider.as_str(), choice.reason.as_str()),
        ("ollama", "nothing else is set, and it answers")
    );
    assert_eq!(choice.provider_settings.dialect, Dialect::Chat);
    assert_eq!(
        choice.provider_settings.base_url.as_deref(),
        Some("http://127.0.0.1:11434/v1")
    );
    assert_eq!(choice.instructions, None);
    let named = settings.choose(Some("ollama"), None).unwrap();
    assert_eq!(
        (named.provider.as_str(), named.reason.as_str()),
        ("ollama", "it answers")
    );
    let names: Vec<String> = settings.providers().into_iter().map(|provider| provider.name).collect();
    assert_eq!(names, ["embedded", "ollama"]);
}

#[test]
fn a_key_of_azure_is_for_azure_whatever_else_is_set() {
    let settings = with_environment(&[
        ("AZURE_OPENAI_API_KEY", "k"),
        ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
    ]);
    let choice = settings.choose(None, None).unwrap();
    assert_eq!(
        (choice.provider.as_str(), choice.provider_settings.dialect),
        ("azure", Dialect::Responses)
    );
}

#[test]
fn nobody_looks_at_this_machine_where_something_is_set() {
    let toml = |text: &str| {
        let mut settings = Settings::ephemeral();
        settings.layer = crate::config::parse_toml(std::path::Path::new("config.toml"), text).unwrap();
        settings
    };
    let set = [
        with_environment(&[("OPENAI_API_KEY", "k")]),
        with_environment(&[("AZURE_OPENAI_API_KEY", "k")]),
        with_environment(&[("ASSISTANT_ID", "asst_1")]),
        with_environment(&[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]),
        toml("script = \"s.toml\""),
        toml("discover = false"),
        toml("default_provider = \"embedded\""),
        toml("[providers.p]\ndialect = \"chat\""),
        toml("[assistants.a]\nprovider = \"embedded\""),
    ];
    for settings in set {
        assert!(!settings.wants_local(None), "{settings:?}");
    }
    for text in [
        "default_provider = \"ollama\"",
        "default_assistant = \"ollama\"",
        "[assistants.a]\nprovider = \"ollama\"",
    ] {
        let mut settings = toml(text);
        assert!(settings.wants_local(None), "{text}");
        settings.local = found();
        assert_eq!(settings.choose(None, None).unwrap().provider, "ollama", "{text}");
    }
}

#[test]
fn a_key_that_is_set_wins_over_a_server_on_this_machine() {
    let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
    settings.local = found();
    assert_eq!(settings.choose(None, None).unwrap().provider, "openai");
}

#[test]
fn a_base_url_alone_means_chat_without_a_key() {
    let choice = |url: &str| {
        with_environment(&[("OPENAI_BASE_URL", url)])
            .choose(None, None)
            .unwrap()
    };
    let own = choice("http://127.0.0.1:1/v1");
    assert_eq!(own.provider_settings.dialect, Dialect::Chat);
    assert_eq!(own.provider_settings.api_key_env, None);
    assert_eq!(
        choice("https://api.openai.com/v1").provider,
        "embedded",
        "that one takes no one without a key"
    );
}

#[test]
fn a_provider_can_be_chosen_by_its_name() {
    let mut settings = with_environment(&[("ASSISTANT_ID", "asst_1"), ("OPENAI_API_KEY", "k")]);
    settings.layer = crate::config::parse_toml(
        std::path::Path::new("config.toml"),
        "default_assistant = \"w\"\n[providers.l]\ndialect = \"chat\"\n[assistants.w]\nprovider = \"l\"\nmodel = \"m\"\n",
    )
    .unwrap();
    assert_eq!(settings.choose_provider("l").unwrap().model.as_deref(), Some("m"));
    assert_eq!(
        settings.choose_provider("openai").unwrap().assistant_id.as_deref(),
        Some("asst_1")
    );
    let error = settings.choose_provider("x").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.data.hint.as_deref(),
        Some("the providers are `embedded`, `l`, `openai`")
    );
}

#[test]
fn settings_win_over_the_environment() {
    let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
    settings.layer = crate::config::parse_toml(
        std::path::Path::new("config.toml"),
        "default_assistant = \"w\"\n[providers.l]\ndialect = \"chat\"\n[assistants.w]\nprovider = \"l\"\nmodel = \"m\"\n",
    )
    .unwrap();
    let choice = settings.choose(None, None).unwrap();
    assert_eq!((choice.provider.as_str(), choice.model.as_deref()), ("l", Some("m")));
    assert_eq!(settings.choose(None, Some("n")).unwrap().model.as_deref(), Some("n"));
}

#[test]
fn a_script_plays_whatever_else_is_set() {
    let mut settings = with_environment(&[("OPENAI_API_KEY", "k")]);
    settings.layer = crate::config::parse_toml(
        std::path::Path::new("config.toml"),
        "default_assistant = \"w\"\nscript = \"/s.toml\"\n[assistants.w]\nprovider = \"openai\"\ninstructions = \"i\"\n",
    )
    .unwrap();
    let choice = settings.choose(None, None).unwrap();
    assert_eq!(choice.provider_settings.dialect, Dialect::Scripted);
    assert_eq!(
        (choice.provider.as_str(), choice.instructions.as_deref()),
        ("scripted", Some("i"))
    );
    settings.layer.default_assistant = None;
    assert_eq!(
        settings.choose(None, None).unwrap().instructions.as_deref(),
        Some("i"),
        "the only one is meant"
    );
    settings.layer.default_provider = Some("nobody".into());
    let choice = settings.choose(None, None).unwrap();
    assert_eq!((choice.provider.as_str(), choice.instructions), ("scripted", None));
}

#[test]
fn an_upstreams_own_assistant_can_be_named() {
    let settings = with_environment(&[("ASSISTANT_ID", "asst_1"), ("OPENAI_API_KEY", "k")]);
    let choice = settings.choose(Some("asst_2"), None).unwrap();
    assert_eq!(
        (choice.provider.as_str(), choice.assistant_id.as_deref()),
        ("openai", Some("asst_2"))
    );
}

#[test]
fn of_several_providers_none_is_guessed_and_nothing_else_answers() {
    let text = "[providers.a]\ndialect = \"chat\"\n[providers.b]\ndialect = \"chat\"\n";
    let mut settings = Settings::ephemeral();
    settings.layer = crate::config::parse_toml(std::path::Path::new("config.toml"), text).unwrap();
    assert!(!settings.wants_local(None));
    for local in [None, found()] {
        settings.local = local;
        let error = settings.choose(None, None).unwrap_err();
        assert_eq!(
            error.message,
            "the settings have several providers, and none of them is the default: `a`, `b`"
        );
        assert_eq!(error.data.hint.as_deref(), Some("name one with `default_provider`"));
    }
    settings.environment.insert("OPENAI_API_KEY".into(), "k".into());
    assert_eq!(settings.choose(None, None).unwrap().provider, "openai");
}

#[test]
fn a_provider_that_is_named_and_not_set_is_told_of_by_its_name() {
    let mut settings = Settings::ephemeral();
    settings.layer.default_provider = Some("x".into());
    let error = settings.choose(None, None).unwrap_err();
    assert_eq!(
        error.message,
        "there is no provider `x`, and `--provider` or `default_provider` names it"
    );
}

#[test]
fn an_unknown_assistant_lists_the_known_ones() {
    let error = Settings::ephemeral().choose(Some("x"), None).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.data.hint.as_deref(), Some("the assistants are `embedded`"));
    // A default that is unknown is sought once, not again for the list of those that are known.
    for name in ["x", "asst_x"] {
        let mut settings = Settings::ephemeral();
        settings.layer.default_assistant = Some(name.into());
        assert_eq!(settings.choose(None, None).unwrap_err().kind(), Kind::NotFound);
    }
}

#[test]
fn a_promise_that_the_dialect_cannot_keep_is_refused() {
    let mut settings = Settings::ephemeral();
    let mut provider = ProviderSettings::new(Dialect::Chat);
    provider.background = Some(true);
    settings.layer.providers.insert("p".into(), provider);
    let error = settings.choose(None, None).unwrap_err();
    assert_eq!(
        error.message,
        "provider `p` speaks `chat`, which has no `background`: only `responses` has it"
    );
    settings.layer.providers.get_mut("p").unwrap().dialect = Dialect::Responses;
    settings.choose(None, None).unwrap();
}

#[test]
fn a_provider_that_is_named_is_there_because_it_is_named() {
    let mut settings = Settings::ephemeral();
    settings.layer.default_provider = Some("embedded".into());
    let choice = settings.choose(None, None).unwrap();
    assert_eq!(
        (choice.provider.as_str(), choice.reason.as_str()),
        ("embedded", "`--provider` or `default_provider` names it")
    );
}
