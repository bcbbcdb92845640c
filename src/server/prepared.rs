//! What a run will be answered with, and whether it may be: all that is looked at before anything is stored.
//!
//! Knows no threads and no other runs.

use std::sync::Arc;

use crate::config::Choice;
use crate::content;
use crate::error::Error;
use crate::protocol::{Metadata, Options, Part, SendParams, Tool};
use crate::provider::{Asked, Provider};

/// What a run will be answered with.
pub(super) struct Prepared {
    pub(super) choice: Choice,
    pub(super) provider: Arc<dyn Provider>,
    /// What the user says, if anything; taken when it is stored.
    pub(super) content: Option<Vec<Part>>,
    pub(super) instructions: Option<String>,
    pub(super) tools: Vec<Tool>,
    /// Whether it brings the outputs of calls.
    has_outputs: bool,
    /// The names of the MCP servers whose tools the model may call.
    pub(super) mcp: Vec<String>,
    pub(super) options: Options,
    /// Whether the response waits for the end of the run.
    pub(super) waits: bool,
}

impl Prepared {
    /// From what the request asks for and what the settings have chosen for it.
    pub(super) fn new(params: SendParams, choice: Choice, mcp: Vec<String>, provider: Arc<dyn Provider>) -> Self {
        let has_outputs = params.has_outputs();
        let mut tools = choice.tools.clone();
        for tool in params.tools.into_iter().flatten() {
            tools.retain(|known| known.name != tool.name);
            tools.push(tool);
        }
        Prepared {
            has_outputs,
            instructions: params.instructions.or_else(|| choice.instructions.clone()),
            tools,
            mcp,
            options: choice.options.overridden_by(&params.options.unwrap_or_default()),
            waits: params.wait.unwrap_or(true),
            content: params.content.map(|content| content.0),
            choice,
            provider,
        }
    }

    /// Reads the paths in what the user says, and asks the provider whether it can take all that is asked.
    pub(super) async fn read_content(&mut self) -> Result<(), Error> {
        if let Some(format) = &self.options.format {
            format.check()?;
        }
        if let Some(content) = self.content.take() {
            self.content = Some(content::read(content).await?);
        }
        self.provider.takes(&Asked {
            content: self.content.as_deref().unwrap_or_default(),
            has_outputs: self.has_outputs,
            model: self.choice.model.as_deref(),
            tools: &self.tools,
            options: &self.options,
        })
    }
}

impl SendParams {
    /// Whether it brings the outputs of calls.
    pub(super) fn has_outputs(&self) -> bool {
        self.tool_outputs.as_ref().is_some_and(|outputs| !outputs.is_empty())
    }
}

/// Whether a request is one that can be answered at all.
pub(super) fn check(params: &SendParams) -> Result<(), Error> {
    if params.message_key.is_some() {
        return Err(Error::invalid_params(
            "`messageKey` is not built yet in this version, so sending again would not be safe: leave it out",
        ));
    }
    let is_said = |part: &Part| match part {
        Part::Text { text, .. } => !text.is_empty(),
        _ => true,
    };
    match &params.content {
        Some(content) if !content.0.iter().any(is_said) => {
            return Err(Error::invalid_params(
                "expected `content` to say something, found it empty",
            ));
        }
        None if !params.has_outputs() => return Err(Error::invalid_params("expected `content`, which is missing")),
        _ => {}
    }
    if params.has_outputs() && params.thread_id.is_none() {
        return Err(Error::invalid_params(
            "expected `threadId` with `toolOutputs`: they belong to the thread whose last run left the calls open",
        ));
    }
    if let Some(metadata) = &params.metadata {
        if params.thread_id.is_some() {
            return Err(Error::invalid_params(
                "`metadata` belongs to a new thread; `thread/update` changes that of an old one",
            ));
        }
        check_metadata(metadata)?;
    }
    Ok(())
}

/// The limits of the Assistants API: 16 pairs, keys of 64 characters, values of 512.
pub(super) fn check_metadata(metadata: &Metadata) -> Result<(), Error> {
    if metadata.len() > 16 {
        return Err(Error::invalid_params(format!(
            "expected `metadata` to have at most 16 pairs, found {}",
            metadata.len()
        )));
    }
    for (key, value) in metadata {
        if key.chars().count() > 64 || value.chars().count() > 512 {
            return Err(Error::invalid_params(
                "expected the keys of `metadata` to have at most 64 characters, and its values at most 512",
            ));
        }
    }
    Ok(())
}
