//! `assistd doctor`: what a person sees, and the exit code.

use serde_json::{Value, json};

use crate::program::{Home, stderr, stdout};
use crate::upstream::{Reply, Upstream};

const KEY: &str = "sk-nobody-may-see-this";

#[test]
fn where_all_is_well_it_says_so_and_ends_with_0() {
    let home = Home::with_script("answers = [{ steps = [{ text = \"hi\" }] }]");
    let output = home.run(&["doctor"], "");
    let text = stdout(&output);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), ""),
        "{text}"
    );
    for line in [
        "  ok      file          there is no `",
        "  ok      variables     ASSISTD_DISCOVER, ASSISTD_SCRIPT\n",
        "  ok      database      `",
        "provider `scripted` (scripted), because `--script` or ASSISTD_SCRIPT names a script\n",
        "  ok      script        the script `script.toml` can be played\n",
        "\nall is well\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_script_that_cannot_be_read_is_told_of() {
    let home = Home::with_script("answers = 7");
    let output = home.run(&["doctor"], "");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("  FAILED  script        "), "{text}");
    assert!(text.ends_with("\nsomething is wrong: see FAILED above\n"), "{text}");
}

#[test]
fn wrong_settings_are_told_of_with_file_and_line() {
    let home = Home::new();
    home.write_config("\nmodle = \"m\"\n");
    let output = home.run(&["doctor"], "");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("config.toml:2: unknown field `modle`"), "{text}");
}

#[test]
fn a_database_that_cannot_be_opened_is_told_of() {
    let home = Home::with_script("answers = []");
    let taken = home.write("taken", "a file where the data folder should be");
    let output = home.run(&["doctor", "--data-dir", taken.to_str().unwrap()], "");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("  FAILED  database      "), "{text}");
}

#[tokio::test]
async fn the_stage_that_fails_is_named_and_keys_are_not() {
    let body = json!({ "error": { "message": format!("wrong key {KEY}") } });
    let upstream = Upstream::start([Reply::json(401, body.clone()), Reply::json(401, body)]).await;
    let base_url = upstream.url();
    let looking = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let variables = [
            ("ASSISTANT_ID", "asst_1"),
            ("OPENAI_API_KEY", KEY),
            ("OPENAI_BASE_URL", base_url.as_str()),
        ];
        let run = |args: &[&str]| home.command(args).envs(variables).output().unwrap();
        (run(&["doctor"]), run(&["doctor", "--json"]))
    });
    let (text, json) = looking.await.unwrap();
    for output in [&text, &json] {
        assert_eq!(output.status.code(), Some(1));
        assert!(!stdout(output).contains(KEY) && !stderr(output).contains(KEY));
    }
    let text = stdout(&text);
    assert!(text.contains("  FAILED  credentials   "), "{text}");
    assert!(
        text.contains("the key comes from the environment variable `OPENAI_API_KEY`"),
        "{text}"
    );
    assert!(
        text.contains("  -       model         not looked at, since an earlier stage failed\n"),
        "{text}"
    );
    let report: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(report["ok"], false);
    let stages = report["checks"][0]["stages"].as_array().unwrap();
    let failed: Vec<&Value> = stages.iter().filter(|stage| stage["status"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["stage"], "credentials");
    let variables = &report["settings"]["variables"];
    assert_eq!(
        variables,
        &json!(["ASSISTANT_ID", "ASSISTD_DISCOVER", "OPENAI_API_KEY", "OPENAI_BASE_URL"])
    );
}

#[test]
fn all_looks_at_every_provider() {
    let home = Home::with_script("answers = []");
    home.write_config("[providers.mine]\ndialect = \"scripted\"\nscript = \"/no/such.toml\"\n");
    let output = home.run(&["doctor", "--all", "--json"], "");
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let names: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| &check["provider"])
        .collect();
    assert_eq!(names, ["embedded", "mine", "scripted"]);
    assert_eq!(report["checks"][1]["stages"][0]["status"], "failed");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn models_are_listed_a_line_each() {
    let home = Home::new();
    home.write("model.gguf", "not looked into");
    let path = home.path().join("model.gguf");
    home.write_config(&format!(
        "[providers.mine]\ndialect = \"embedded\"\nmodel = \"{}\"\n",
        path.display()
    ));
    let output = home.run(&["model", "list"], "");
    assert_eq!(
        stdout(&output),
        format!("mine\t{}\n", path.display()),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(0));
    let output = home.run(&["model", "list", "--provider", "nobody"], "");
    assert_eq!(
        (stdout(&output), output.status.code()),
        (String::new(), Some(2)),
        "{}",
        stderr(&output)
    );
}
