//! What an upstream takes, and what is refused before anything is sent.

use assistd::config::Service;
use assistd::error::Kind;
use assistd::protocol::{File, Options, Part};
use assistd::provider::Asked;

use super::*;

fn image(url: Option<&str>, file_id: Option<&str>) -> Part {
    Part::Image(Image {
        url: url.map(str::to_owned),
        file_id: file_id.map(str::to_owned),
        ..Image::default()
    })
}

fn file(name: &str, data: &str, mime_type: &str) -> Part {
    Part::File(File {
        name: Some(name.into()),
        data: Some(data.into()),
        mime_type: Some(mime_type.into()),
        ..File::default()
    })
}

/// `%PDF-1.7`
const PDF: &str = "JVBERi0xLjc=";

fn takes(provider: &Chat, part: Part) -> Result<(), Error> {
    provider.takes(&Asked {
        has_outputs: false,
        content: &[Part::text("Look"), part],
        model: None,
        tools: &[],
        options: &Options::default(),
    })
}

fn at(base_url: Option<&str>, service: Option<Service>) -> Chat {
    let mut settings = ProviderSettings::new(Dialect::Chat);
    settings.base_url = base_url.map(str::to_owned);
    settings.service = service;
    provider_with(&settings)
}

#[tokio::test]
async fn only_openai_and_azure_take_files_that_are_not_text() {
    let own = [
        at(None, None),
        at(Some("https://r.openai.azure.com"), None),
        at(Some("https://relay.example/v1"), Some(Service::Azure)),
    ];
    for provider in own {
        takes(&provider, file("a.pdf", PDF, "application/pdf")).unwrap();
        let error = takes(&provider, image(None, Some("file_1"))).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParams);
    }
    let other = at(Some("http://127.0.0.1:9/v1"), None);
    takes(&other, image(Some("https://a.example/a.png"), None)).unwrap();
    takes(&other, file("a.md", "IyBB", "text/markdown")).unwrap();
    let error = takes(&other, file("a.pdf", PDF, "application/pdf")).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidParams);
    assert!(error.message.contains("`a.pdf`"), "{error}");
    assert!(error.data.hint.is_some());
}

/// What was said to another provider does not make the thread useless.
#[tokio::test]
async fn an_old_message_loses_what_cannot_be_sent() {
    let upstream = Upstream::start([Reply::events(whole("a"))]).await;
    let mut asked = request("u1:one u2:two");
    messages(&mut asked)[0].content.push(image(None, Some("file_1")));
    messages(&mut asked)[1].content.extend([
        image(Some("https://a.example/a.png"), None),
        file("a.md", "IyBB", "text/markdown"),
    ]);
    play(&provider(&upstream), asked).await;
    assert_eq!(
        upstream.requests()[0].json()["messages"],
        json!([
            { "role": "user", "content": "one" },
            { "role": "user", "content": [
                { "type": "text", "text": "two" },
                { "type": "image_url", "image_url": { "url": "https://a.example/a.png" } },
                { "type": "text", "text": "a.md\n```markdown\n# A\n```\n" },
            ] },
        ])
    );
}

#[tokio::test]
async fn wrong_settings_are_told_before_a_run_exists() {
    let provider = at(Some("x.example/v1"), None);
    let error = provider.prepare().await.unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert_eq!(takes(&provider, Part::text("")).unwrap_err(), error);
    assert!(provider.endpoint().is_none());
    let (_, end) = play(&provider, request("u1:hello")).await;
    assert_eq!(end, End::Failed(error));
}
