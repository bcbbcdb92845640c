//! The way to an upstream, stage by stage: name, proxy, connection, TLS, credentials, model.
//!
//! Knows no dialect: what the upstream has is asked by whoever calls. The connections that are made here are for looking
//! only; what is asked of the upstream goes the way that runs go, so the last two stages are about exactly that.

mod certificates;
mod connection;
mod route;
mod tls;

use super::{Endpoint, bare};
use crate::config::Service;
use crate::error::{Error, Kind};
use crate::protocol::{CheckDetails, CheckStage, StageName};
use crate::provider::check::{Checkup, Fault, Finding, Offer, Wanted, only_model};

use connection::Place;
use route::Route;

/// The stages in their order.
const STAGES: [StageName; 7] = [
    StageName::Settings,
    StageName::Dns,
    StageName::Proxy,
    StageName::Connect,
    StageName::Tls,
    StageName::Credentials,
    StageName::Model,
];

/// How many models are named.
const MODELS_MAX: usize = 50;

/// Goes through all stages. `offer` asks the upstream what it has, in a way that bad credentials are refused.
pub async fn check(
    endpoint: &Endpoint,
    offer: impl Future<Output = Result<Offer, Error>>,
    wanted: Wanted<'_>,
) -> Vec<CheckStage> {
    let mut checkup = Checkup::begin();
    // None is the first stage that failed, which the report has.
    let _ = walk(&mut checkup, endpoint, offer, wanted).await;
    checkup.end(&STAGES)
}

async fn walk(
    checkup: &mut Checkup,
    endpoint: &Endpoint,
    offer: impl Future<Output = Result<Offer, Error>>,
    wanted: Wanted<'_>,
) -> Option<()> {
    let target = Place::of(&endpoint.base);
    let route = Route::to(endpoint);
    checkup
        .stage(StageName::Settings, async { Ok(settings(endpoint)) })
        .await?;
    let first = route.proxy.as_ref().map_or(&target, |proxy| &proxy.place);
    let addresses = checkup.stage(StageName::Dns, connection::resolve(first)).await?;
    let stream = match &route.proxy {
        None => {
            checkup.skip(StageName::Proxy, "no proxy applies: the connection is direct");
            let connecting = connection::connect(&target, &addresses);
            Some(checkup.stage(StageName::Connect, connecting).await?)
        }
        Some(proxy) => {
            let stream = checkup
                .stage(
                    StageName::Proxy,
                    proxy.pass(&addresses, &target, is_encrypted(endpoint)),
                )
                .await?;
            checkup.skip(StageName::Connect, "the proxy makes the connection");
            stream
        }
    };
    match stream {
        _ if !is_encrypted(endpoint) => {
            checkup.skip(StageName::Tls, "`base_url` begins with `http://`: nothing is encrypted")
        }
        Some(stream) => {
            checkup
                .stage(StageName::Tls, tls::shake_hands(stream, &target, &route))
                .await?
        }
        None => checkup.skip(StageName::Tls, "not looked at behind a proxy of this kind"),
    }
    let offer = checkup
        .stage(StageName::Credentials, credentials(endpoint, offer, wanted))
        .await?;
    match offer {
        Offer::Unlisted => {
            checkup.skip(StageName::Model, "the upstream does not list its models");
            Some(())
        }
        Offer::Models(models) if lists_no_deployments(endpoint) && wanted.model.is_some() => {
            let models = models.len();
            checkup.skip(
                StageName::Model,
                format_args!("the upstream lists {models} models but not what is deployed of them"),
            );
            Some(())
        }
        offer => {
            checkup
                .stage(StageName::Model, async { model(offer, wanted.model) })
                .await
        }
    }
}

fn is_encrypted(endpoint: &Endpoint) -> bool {
    endpoint.base.scheme() == "https"
}

/// Azure's list is of what could be deployed, while a model is named there by its deployment.
fn lists_no_deployments(endpoint: &Endpoint) -> bool {
    Service::of(&endpoint.base) != Service::Openai
}

fn settings(endpoint: &Endpoint) -> Finding {
    Finding::new(format!("the upstream is {}", bare(&endpoint.base)))
}

async fn credentials(
    endpoint: &Endpoint,
    offer: impl Future<Output = Result<Offer, Error>>,
    wanted: Wanted<'_>,
) -> Result<Finding<Offer>, Fault> {
    let has_key = endpoint.credentials.get().await?.is_some();
    let key_from = wanted.key_from.filter(|_| has_key);
    let offer = offer.await.map_err(|error| refused(error, key_from))?;
    let message = match (key_from, &offer) {
        (Some(from), Offer::Unlisted) => {
            format!("the key comes from {from}; whether it is accepted shows with the first run")
        }
        // What is not found may be so for strangers as well.
        (Some(from), Offer::Missing(_)) => format!("the upstream does not refuse the key, which comes from {from}"),
        (Some(from), _) => format!("the upstream accepts the key, which comes from {from}"),
        (None, _) if has_key => "the upstream accepts the key".to_owned(),
        (None, _) => "the upstream answers without a key".to_owned(),
    };
    Ok(Finding::new(message).with(offer))
}

/// A refusal, with the place where its user mends it.
fn refused(error: Error, key_from: Option<&str>) -> Fault {
    let is_refusal = error.kind() == Kind::AuthRequired;
    match key_from {
        Some(from) if is_refusal => {
            let hint = error
                .data
                .hint
                .as_deref()
                .map(|hint| format!("; {hint}"))
                .unwrap_or_default();
            Fault::new(error.message.clone(), format!("the key comes from {from}{hint}"))
        }
        _ if error.data.hint.is_none() => Fault::new(
            error.message,
            "the way there is fine: look at the log of the upstream, and try again later",
        ),
        _ => error.into(),
    }
}

fn model(offer: Offer, wanted: Option<&str>) -> Result<Finding, Fault> {
    let models = match offer {
        Offer::Models(models) => models,
        Offer::Found(sentence) => return Ok(Finding::new(sentence)),
        Offer::Missing(error) => return Err(error.into()),
        Offer::Unlisted => return Ok(Finding::new("the upstream does not list its models")),
    };
    let details = CheckDetails {
        models: models.iter().take(MODELS_MAX).cloned().collect(),
        ..CheckDetails::default()
    };
    let offers = || match details.models.as_slice() {
        [] => "it offers none: load one there first".to_owned(),
        few if few.len() <= 8 => format!("it offers {}", quoted(few)),
        many => format!("it offers {} and {} more", quoted(&many[..8]), models.len() - 8),
    };
    let found = match (wanted, only_model(&models)) {
        (Some(wanted), _) if models.iter().any(|model| is_named(model, wanted)) => {
            Ok(format!("the upstream offers `{wanted}`"))
        }
        (Some(wanted), _) => Err(Fault::new(
            format!("the upstream does not offer the model `{wanted}`"),
            offers(),
        )),
        (None, Some(only)) => Ok(format!("the upstream offers one model that answers, `{only}`")),
        (None, None) if models.is_empty() => Err(Fault::new("the upstream offers no model", "load one there first")),
        (None, None) => Err(Fault::new(
            format!("no model is named, and the upstream offers {}", models.len()),
            format!(
                "name one with `--model`, ASSISTD_MODEL or `model` of the assistant: {}",
                offers()
            ),
        )),
    };
    match found {
        Ok(message) => Ok(Finding::new(message).seeing(details)),
        Err(fault) => Err(fault.seeing(details)),
    }
}

/// Ollama lists a model with its tag and takes it without.
fn is_named(offered: &str, wanted: &str) -> bool {
    offered == wanted || offered.strip_suffix(":latest") == Some(wanted)
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// What a request for a list comes to: an upstream without such a list has answered all the same.
pub fn offer(listed: Result<Vec<String>, Error>) -> Result<Offer, Error> {
    match listed {
        Ok(models) => Ok(Offer::Models(models)),
        Err(error) if matches!(error.upstream_status(), Some(404 | 405 | 501)) => Ok(Offer::Unlisted),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_means_the_usual_one_may_be_left_out() {
        assert!(is_named("m:latest", "m") && is_named("m:1b", "m:1b"));
        assert!(!is_named("m:1b", "m") && !is_named("m", "m:latest"));
    }
}
