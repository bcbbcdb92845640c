//! A check of a provider: stages that are gone through in order until one fails, each within a limit of time.
//!
//! Knows no network and no model: who looks at something hands in a future, and gets what it found. Every stage that is
//! begun is reported once; behind a failure all others are skipped.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::protocol::{CheckDetails, CheckStage, StageName, StageStatus};

/// How long the whole may take.
pub const WHOLE_LIMIT: Duration = Duration::from_secs(20);

/// How long one stage may take, but for the last ones, which have what is left: a program that gives a key may ask its
/// user for a password first.
const STAGE_LIMIT: Duration = Duration::from_secs(5);

/// What is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The model, if one is named.
    pub model: Option<&'a str>,
    /// Where the key comes from, for the end of a sentence; none where there is no key.
    pub key_from: Option<&'a str>,
}

/// What an upstream says of what it has.
#[derive(Debug)]
pub enum Offer {
    /// The models that it offers, by name.
    Models(Vec<String>),
    /// It does not say which models it has.
    Unlisted,
    /// What is named in the settings is there; a sentence about it.
    Found(String),
    /// What is named in the settings is not there.
    Missing(Error),
}

/// The model that answers where none is named: the only one. LM Studio lists a model for embeddings beside whatever else
/// is there, and such a one says by its name that it answers nothing.
pub fn only_model(offered: &[String]) -> Option<&str> {
    let mut answering = offered
        .iter()
        .filter(|name| !name.to_ascii_lowercase().contains("embed"));
    match (answering.next(), answering.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// A stage that passed.
#[derive(Debug)]
pub struct Finding<T = ()> {
    /// What later stages need of it.
    pub value: T,
    /// What was found, in a sentence.
    pub message: String,
    /// What was seen.
    pub details: CheckDetails,
}

impl Finding {
    /// A sentence, and nothing else.
    pub fn new(message: impl Into<String>) -> Finding {
        Finding {
            value: (),
            message: message.into(),
            details: CheckDetails::default(),
        }
    }
}

impl<T> Finding<T> {
    /// The same finding with something that later stages need.
    pub fn with<U>(self, value: U) -> Finding<U> {
        Finding {
            value,
            message: self.message,
            details: self.details,
        }
    }

    /// The same finding with what was seen.
    pub fn seeing(mut self, details: CheckDetails) -> Finding<T> {
        self.details = details;
        self
    }
}

/// A stage that failed.
#[derive(Debug)]
pub struct Fault {
    message: String,
    hint: Option<String>,
    details: Box<CheckDetails>,
}

impl Fault {
    /// What failed, in a sentence, and what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            hint: Some(hint.into()),
            details: Box::default(),
        }
    }

    /// The same fault with what was seen.
    pub fn seeing(mut self, details: CheckDetails) -> Fault {
        *self.details = details;
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault {
            message: error.message.into_owned(),
            hint: error.data.hint.map(|hint| hint.into_owned()),
            details: Box::default(),
        }
    }
}

/// A check that is under way.
#[derive(Debug)]
pub struct Checkup {
    stages: Vec<CheckStage>,
    deadline: Instant,
}

impl Checkup {
    /// Begins. Its time runs from now.
    pub fn begin() -> Checkup {
        Checkup {
            stages: Vec::new(),
            deadline: Instant::now() + WHOLE_LIMIT,
        }
    }

    /// Goes through a stage. None means that it failed, and that there is no going on.
    pub async fn stage<T>(
        &mut self,
        stage: StageName,
        work: impl Future<Output = Result<Finding<T>, Fault>>,
    ) -> Option<T> {
        let begun = Instant::now();
        let left = self.deadline.saturating_duration_since(begun);
        let limit = match stage {
            StageName::Credentials | StageName::Model => left,
            _ => left.min(STAGE_LIMIT),
        };
        let found = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("it took longer than {:.0} s", limit.as_secs_f64());
            Err(Fault::new(
                message,
                "try again; if it stays so, something on the way drops what is sent",
            ))
        });
        let elapsed_ms = begun.elapsed().as_millis() as u64;
        match found {
            Ok(finding) => {
                self.stages.push(CheckStage {
                    stage,
                    status: StageStatus::Passed,
                    message: finding.message,
                    hint: None,
                    details: finding.details,
                    elapsed_ms,
                });
                Some(finding.value)
            }
            Err(fault) => {
                self.stages.push(CheckStage {
                    stage,
                    status: StageStatus::Failed,
                    message: fault.message,
                    hint: fault.hint,
                    details: *fault.details,
                    elapsed_ms,
                });
                None
            }
        }
    }

    /// Passes over a stage where there is nothing to look at.
    pub fn skip(&mut self, stage: StageName, message: impl Display) {
        self.stages.push(CheckStage {
            stage,
            status: StageStatus::Skipped,
            message: message.to_string(),
            hint: None,
            details: CheckDetails::default(),
            elapsed_ms: 0,
        });
    }

    /// The report: what was gone through, and the rest of `all` as skipped.
    pub fn end(mut self, all: &[StageName]) -> Vec<CheckStage> {
        for stage in &all[self.stages.len()..] {
            self.skip(*stage, "not looked at, since an earlier stage failed");
        }
        self.stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [StageName; 3] = [StageName::Settings, StageName::Dns, StageName::Credentials];

    fn statuses(stages: &[CheckStage]) -> Vec<(StageName, StageStatus)> {
        stages.iter().map(|stage| (stage.stage, stage.status)).collect()
    }

    #[test]
    fn a_model_for_embeddings_does_not_count() {
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            only_model(&names).map(str::to_owned)
        };
        assert_eq!(only(&["text-embedding-nomic", "m"]).as_deref(), Some("m"));
        assert_eq!(only(&["m", "n"]), None);
        assert_eq!(only(&[]), None);
    }

    #[tokio::test]
    async fn behind_the_first_failure_all_is_skipped() {
        let mut checkup = Checkup::begin();
        let value = checkup
            .stage(StageName::Settings, async { Ok(Finding::new("fine").with(7)) })
            .await;
        assert_eq!(value, Some(7));
        let value: Option<()> = checkup
            .stage(StageName::Dns, async { Err(Fault::new("no such name", "mend it")) })
            .await;
        assert_eq!(value, None);
        let stages = checkup.end(&ALL);
        assert_eq!(
            statuses(&stages),
            [
                (StageName::Settings, StageStatus::Passed),
                (StageName::Dns, StageStatus::Failed),
                (StageName::Credentials, StageStatus::Skipped)
            ]
        );
        assert_eq!(
            (stages[1].message.as_str(), stages[1].hint.as_deref()),
            ("no such name", Some("mend it"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_hangs_has_5_s_and_the_whole_20() {
        let hang = || std::future::pending::<Result<Finding, Fault>>();
        let mut checkup = Checkup::begin();
        let begun = Instant::now();
        checkup.stage(StageName::Dns, hang()).await;
        assert_eq!(begun.elapsed(), STAGE_LIMIT);
        checkup.stage(StageName::Credentials, hang()).await;
        assert_eq!(begun.elapsed(), WHOLE_LIMIT);
        let stages = checkup.end(&[StageName::Dns, StageName::Credentials]);
        assert_eq!(stages[0].message, "it took longer than 5 s");
        assert_eq!(
            (stages[1].message.as_str(), stages[1].elapsed_ms),
            ("it took longer than 15 s", 15_000)
        );
    }
}
