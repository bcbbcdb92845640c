//! What can be used: assistants, providers, and the description of this build.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use super::reply::ReplyTo;
use super::{Done, Owner, Server};
use crate::error::Error;
use crate::protocol::{self, AssistantEntry, AssistantGetParams, AssistantListResult, NoParams, ProviderListResult};

/// How long an upstream may take to list its assistants.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

impl Server {
    /// `assistant/list`
    pub(super) fn list_assistants(&mut self, reply: ReplyTo, _: NoParams) {
        let listed = self.assistants();
        self.errand(reply, async move { Ok(listed.await) });
    }

    /// `assistant/get`
    pub(super) fn get_assistant(&mut self, reply: ReplyTo, params: AssistantGetParams) {
        let configured = self.choosing.settled(self.settings.clone()).assistants();
        if let Some(entry) = configured.into_iter().find(|entry| entry.name == params.assistant) {
            return self.errand(reply, async move { Ok(entry) });
        }
        let listed = self.assistants();
        self.errand(reply, async move {
            let listed = listed.await.assistants;
            let entry = listed.into_iter().find(|entry| entry.name == params.assistant);
            entry.ok_or_else(|| {
                Error::not_found("assistant", &params.assistant).with_hint("`assistant/list` names them all")
            })
        });
    }

    /// Those of the settings, then those that upstreams list. An upstream that does not answer becomes a warning.
    fn assistants(&self) -> impl Future<Output = AssistantListResult> + 'static {
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        let providers = self.providers.clone();
        async move {
            let settings = choosing.settle(settings, None).await;
            let mut assistants = settings.assistants();
            let upstreams = settings.upstream_choices();
            let asked = join_all(upstreams.iter().map(|choice| async {
                let listing = async {
                    let provider = providers.provider(&settings, choice)?;
                    provider.prepare().await?;
                    provider.assistants().await
                };
                let listed = tokio::time::timeout(LIST_TIMEOUT, listing).await;
                (choice.provider.clone(), listed)
            }));
            let mut warnings = Vec::new();
            for (provider, listed) in asked.await {
                match listed {
                    Ok(Ok(entries)) => assistants.extend(new_ones(entries, &assistants)),
                    Ok(Err(error)) => warnings.push(error.message.into_owned()),
                    Err(_) => warnings.push(format!("provider `{provider}` did not list its assistants within 10 s")),
                }
            }
            AssistantListResult { assistants, warnings }
        }
    }

    /// `provider/list`
    pub(super) fn list_providers(&mut self, reply: ReplyTo, _: NoParams) {
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        self.errand(reply, async move {
            let settings = choosing.settle(settings, None).await;
            Ok(ProviderListResult {
                providers: settings.providers(),
            })
        });
    }

    /// `rpc.discover`. Where the whole does not fit the client's messages, it comes without its descriptions.
    pub(super) fn discover(&self, _: NoParams) -> Value {
        let document = protocol::openrpc();
        if document.to_string().len() + 256 <= self.outbox.max_message() {
            return document;
        }
        without_descriptions(document)
    }

    /// Answers a request from a task.
    pub(super) fn errand<T: serde::Serialize>(
        &mut self,
        reply: ReplyTo,
        errand: impl Future<Output = Result<T, Error>> + 'static,
    ) {
        self.spawn(Owner::Request(reply.clone()), async move {
            let result = errand.await;
            let text = result.map(|result| serde_json::to_string(&result).expect("a result is plain data"));
            Done::Answered(reply, text)
        });
    }
}

fn new_ones(entries: Vec<AssistantEntry>, known: &[AssistantEntry]) -> Vec<AssistantEntry> {
    let is_known = |entry: &AssistantEntry| {
        known.iter().any(|known| {
            known.name == entry.name || (known.upstream_id.is_some() && known.upstream_id == entry.upstream_id)
        })
    };
    entries.into_iter().filter(|entry| !is_known(entry)).collect()
}

fn without_descriptions(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(name, value)| name != "description" || !value.is_string())
            .map(|(name, value)| (name, without_descriptions(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_descriptions).collect(),
        other => other,
    }
}
