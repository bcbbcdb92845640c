//! `assistd model`: the embedded model's weights with the progress bar of their fetching, and the list of all models.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use serde_json::{Value, json};

use super::client::Client;
use super::failure;
use super::schema::print;
use crate::config::{Choice, Role, Settings};
use crate::error::Error;
use crate::protocol::ModelListResult;

/// What to do about the weights.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Fetch the weights (about 100 MB) unless they are here, and print their path
    Fetch,
    /// Print where the weights are; exit code 1 if they are not
    Path,
    /// List the models that providers offer, or the one of --provider: a line for each, with its provider before it
    List,
}

/// Fetches or finds.
pub fn run(args: &ModelArgs, provider: Option<&str>, settings: Settings) -> ExitCode {
    let found = match args.command {
        ModelCommand::Fetch => fetch(&settings),
        ModelCommand::Path => find(&settings),
        ModelCommand::List => return super::block_on(list(settings, json!({ "provider": provider }))),
    };
    match found {
        Ok(path) => print(format!("{}\n", path.display()).as_bytes()),
        Err(error) => {
            failure::report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints `PROVIDER<tab>MODEL` lines. A provider that cannot be asked is told of on stderr, and is a failure if it was the
/// only one.
async fn list(mut settings: Settings, params: Value) -> u8 {
    settings.role = Role::OneShot;
    let mut client = Client::start(settings);
    let listed = client.request::<ModelListResult>("model/list", params).await;
    client.leave().await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return failure::report(&error),
    };
    let lines = listed
        .models
        .iter()
        .map(|model| format!("{}\t{}\n", model.provider, model.name));
    let _ = print(lines.collect::<String>().as_bytes());
    for warning in &listed.warnings {
        failure::complain(warning);
    }
    u8::from(listed.models.is_empty())
}

/// Fetches the weights if this choice needs them and they are not here.
pub fn ensure(choice: &Choice, settings: &Settings) -> Result<(), Error> {
    if needs_weights(choice) {
        fetch(settings).map(|_| ())
    } else {
        Ok(())
    }
}

/// What a person calls the model of this choice, where that is known before it is asked.
pub fn name(choice: &Choice) -> Option<&str> {
    choice.model.as_deref().or_else(|| usual_name(choice))
}

#[cfg(feature = "embedded")]
mod weights {
    //! The one place that knows where the weights come from.

    use std::io::IsTerminal;

    use indicatif::{ProgressBar, ProgressStyle};

    use super::*;
    use crate::config::Dialect;
    use crate::provider::embedded::weights::{self, MODEL_NAME, Progress, Stage};

    pub fn needs_weights(choice: &Choice) -> bool {
        let is_default = choice
            .model
            .as_deref()
            .is_none_or(|model| model.eq_ignore_ascii_case(MODEL_NAME));
        choice.provider_settings.dialect == Dialect::Embedded && is_default
    }

    pub fn usual_name(choice: &Choice) -> Option<&'static str> {
        (choice.provider_settings.dialect == Dialect::Embedded).then_some(MODEL_NAME)
    }

    pub fn find(settings: &Settings) -> Result<PathBuf, Error> {
        let path = weights::path(&settings.cache_dir);
        if path.is_file() {
            Ok(path)
        } else {
            Err(weights::missing(&settings.cache_dir))
        }
    }

    pub fn fetch(settings: &Settings) -> Result<PathBuf, Error> {
        let mut providers = settings.layer.providers.values();
        let embedded = providers.find(|provider| provider.dialect == Dialect::Embedded);
        let hub = embedded.and_then(|provider| provider.base_url.as_deref());
        let mut bar = Bar::default();
        weights::fetch(&settings.cache_dir, hub, &mut |progress| bar.show(progress))
    }

    /// A bar for each stage on a terminal, a line for each elsewhere.
    #[derive(Default)]
    struct Bar {
        shown: Option<(Stage, ProgressBar)>,
    }

    impl Bar {
        fn show(&mut self, progress: Progress) {
            if self.shown.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
                self.clear();
                self.shown = Some((progress.stage, begin(progress)));
            }
            if let Some((_, bar)) = &self.shown {
                bar.set_length(progress.total.max(progress.done));
                bar.set_position(progress.done);
            }
        }

        fn clear(&mut self) {
            if let Some((_, bar)) = self.shown.take() {
                bar.finish_and_clear();
            }
        }
    }

    impl Drop for Bar {
        fn drop(&mut self) {
            self.clear();
        }
    }

    fn begin(progress: Progress) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            failure::complain(progress.stage.as_str());
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}");
        let bar = ProgressBar::new(progress.total);
        bar.set_style(style.expect("the template is a constant that indicatif takes"));
        bar.set_message(progress.stage.as_str());
        bar
    }
}

#[cfg(not(feature = "embedded"))]
mod weights {
    //! A build without the embedded model.

    use super::*;
    use crate::error::Kind;

    pub fn needs_weights(_: &Choice) -> bool {
        false
    }

    pub fn usual_name(_: &Choice) -> Option<&'static str> {
        None
    }

    pub fn find(_: &Settings) -> Result<PathBuf, Error> {
        Err(Error::new(
            Kind::ConfigInvalid,
            "this assistd was built without the embedded model",
        ))
    }

    pub fn fetch(settings: &Settings) -> Result<PathBuf, Error> {
        find(settings)
    }
}

use weights::{fetch, find, needs_weights, usual_name};
