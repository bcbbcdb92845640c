//! Tokens of Microsoft Entra ID, for Azure OpenAI and Foundry.
//!
//! Whoever has any of the usual sources gets a token without setting anything: a ready token, the secret or the
//! federated token of an application, the machine's own identity, and last the Azure command line. One that is set up
//! and refused is the answer; nothing else is tried behind it, since somebody meant that one.

mod service;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use reqwest::{Method, Url};

use self::service::Ask;
use super::{Secret, Token, program};
use crate::config::{Environment, ProviderSettings, Service};
use crate::error::{Error, Kind};
use crate::provider::http::{Http, Network};

/// Whom tokens for Azure OpenAI are for.
const AZURE: &str = "https://cognitiveservices.azure.com/.default";

/// Whom tokens for Foundry's projects and agents are for.
const FOUNDRY: &str = "https://ai.azure.com/.default";

/// Where the public cloud issues tokens.
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// The metadata service of Azure's virtual machines.
const METADATA: &str = "http://169.254.169.254";

/// How long a token service may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// The same for the metadata service: on a machine that is none of Azure's nobody answers at its address.
const METADATA_LIMIT: Duration = Duration::from_secs(1);

/// The Azure command line. On Windows it is a batch file.
const AZ: &str = if cfg!(windows) { "az.cmd" } else { "az" };

/// How long it may take.
const AZ_LIMIT: Duration = Duration::from_secs(30);

/// The environment variable that holds a ready token.
pub const READY_TOKEN: &str = "AZURE_OPENAI_AD_TOKEN";

/// Entra ID as a source of tokens for one provider.
#[derive(Debug)]
pub struct Entra {
    provider: String,
    /// Whom the tokens are for.
    scope: String,
    environment: Variables,
    http: Http,
}

/// What the environment says; a `Debug` that shows none of it.
struct Variables(Environment);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables(***)")
    }
}

/// Why a source gave no token.
enum Miss {
    /// It is not there; why, in a few words.
    Absent(String),
    /// It is there and gave none.
    Failed(Error),
}

/// The sources, in their order.
#[derive(Debug, Clone, Copy)]
enum Source {
    Ready,
    Secret,
    Workload,
    Managed,
    CommandLine,
}

impl Entra {
    /// Tokens for the upstream of these settings, whose `scope` says whom they are for; else its service does.
    pub fn new(provider: &str, settings: &ProviderSettings, environment: &Environment, http: Http) -> Entra {
        let by_service = match settings.resolved_service() {
            Service::Foundry => FOUNDRY,
            Service::Azure | Service::Openai => AZURE,
        };
        let names = environment.iter().filter(|(name, _)| {
            name.starts_with("AZURE_") || matches!(name.as_str(), "IDENTITY_ENDPOINT" | "IDENTITY_HEADER")
        });
        Entra {
            provider: provider.to_owned(),
            scope: settings.scope.clone().unwrap_or_else(|| by_service.to_owned()),
            environment: Variables(names.map(|(name, value)| (name.clone(), value.clone())).collect()),
            http,
        }
    }

    /// A token of the first source that is there.
    pub async fn issue(&self) -> Result<Token, Error> {
        let mut tried = Vec::new();
        for source in [
            Source::Ready,
            Source::Secret,
            Source::Workload,
            Source::Managed,
            Source::CommandLine,
        ] {
            let given = match source {
                Source::Ready => self.ready(),
                Source::Secret => self.by_secret().await,
                Source::Workload => self.by_workload().await,
                Source::Managed => self.by_managed_identity().await,
                Source::CommandLine => self.by_command_line().await,
            };
            match given {
                Ok(token) => {
                    tracing::debug!(provider = self.provider, ?source, "has an Entra token");
                    return Ok(token);
                }
                Err(Miss::Absent(why)) => tried.push(why),
                Err(Miss::Failed(error)) => return Err(error),
            }
        }
        Err(self.error(Kind::AuthRequired, &tried.join("; ")).with_hint(
            "run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of an application",
        ))
    }

    fn ready(&self) -> Result<Token, Miss> {
        let token = self.variable(READY_TOKEN);
        let token = token.ok_or_else(|| Miss::Absent(format!("{READY_TOKEN} is not set")))?;
        // Nothing would come of renewing it, so its end does not count.
        Ok(Token::new(Secret::token(token), None))
    }

    /// An application that proves itself by a secret: RFC 6749 (OAuth 2.0), 4.4.
    async fn by_secret(&self) -> Result<Token, Miss> {
        let Some(secret) = self.variable("AZURE_CLIENT_SECRET") else {
            return Err(Miss::Absent("AZURE_CLIENT_SECRET is not set".into()));
        };
        let form = [("client_secret", secret)];
        self.by_application("AZURE_CLIENT_SECRET", &form, secret).await
    }

    /// An application that proves itself by the token of a cluster that it trusts: RFC 7523, 2.2.
    async fn by_workload(&self) -> Result<Token, Miss> {
        let Some(file) = self.variable("AZURE_FEDERATED_TOKEN_FILE") else {
            return Err(Miss::Absent("AZURE_FEDERATED_TOKEN_FILE is not set".into()));
        };
        let file = PathBuf::from(file);
        // The cluster writes it anew all the time.
        let assertion = std::fs::read_to_string(&file).map_err(|error| {
            let problem = format!(
                "AZURE_FEDERATED_TOKEN_FILE, `{}`, cannot be read: {error}",
                file.display()
            );
            Miss::Failed(self.error(Kind::AuthRequired, &problem))
        })?;
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = [("client_assertion_type", kind), ("client_assertion", assertion.trim())];
        self.by_application("AZURE_FEDERATED_TOKEN_FILE", &form, assertion.trim())
            .await
    }

    async fn by_application(&self, proof: &str, form: &[(&str, &str)], secret: &str) -> Result<Token, Miss> {
        let needed = |name: &str| {
            let problem = format!("{proof} is set and {name} is not");
            self.variable(name)
                .ok_or_else(|| Miss::Failed(self.error(Kind::AuthRequired, &problem)))
        };
        let (tenant, client_id) = (needed("AZURE_TENANT_ID")?, needed("AZURE_CLIENT_ID")?);
        let mut url = self.authority()?;
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend([tenant, "oauth2", "v2.0", "token"]);
        let mut ask = Ask::new(Method::POST, url, LIMIT);
        ask.form.extend([
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("scope", &self.scope),
        ]);
        ask.form.extend(form);
        let given = ask.send(&self.http).await;
        given.map_err(|problem| Miss::Failed(self.refused(proof, &problem, secret)))
    }

    /// The identity that Azure gave to the machine, the app or the container that this runs in.
    async fn by_managed_identity(&self) -> Result<Token, Miss> {
        let app = self.variable("IDENTITY_ENDPOINT").zip(self.variable("IDENTITY_HEADER"));
        let metadata = self.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or(METADATA);
        let (url, version, header, limit) = match app {
            Some((url, header)) => (url.to_owned(), "2019-08-01", ("x-identity-header", header), LIMIT),
            None => {
                let url = format!("{}/metadata/identity/oauth2/token", metadata.trim_end_matches('/'));
                (url, "2018-02-01", ("metadata", "true"), METADATA_LIMIT)
            }
        };
        let name = if app.is_some() {
            "IDENTITY_ENDPOINT"
        } else {
            "AZURE_POD_IDENTITY_AUTHORITY_HOST"
        };
        let wrong = |_| Miss::Failed(self.error(Kind::ConfigInvalid, &format!("{name} is no URL")));
        let mut url = Url::parse(&url).map_err(wrong)?;
        let resource = self.scope.strip_suffix("/.default").unwrap_or(&self.scope);
        url.query_pairs_mut()
            .append_pair("api-version", version)
            .append_pair("resource", resource);
        if let Some(client_id) = self.variable("AZURE_CLIENT_ID") {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        let mut ask = Ask::new(Method::GET, url, limit);
        ask.header = Some(header);
        // It is on this machine, or on its own link.
        match ask.send(&self.http.on(Network::direct())).await {
            Ok(token) => Ok(token),
            Err(problem) if app.is_some() => Err(Miss::Failed(self.refused(name, &problem, header.1))),
            Err(problem) => Err(Miss::Absent(format!(
                "this machine has no managed identity ({})",
                problem.what
            ))),
        }
    }

    /// Whoever is signed in with `az login`.
    async fn by_command_line(&self) -> Result<Token, Miss> {
        let arguments = [
            "account",
            "get-access-token",
            "--output",
            "json",
            "--scope",
            &self.scope,
        ];
        let arguments = arguments.map(str::to_owned);
        let printed = tokio::time::timeout(AZ_LIMIT, program::run(AZ, &arguments)).await;
        let text = match printed {
            Err(_) => Err(format!("did not end within {} s", AZ_LIMIT.as_secs())),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Err("is not installed".to_owned()),
            Ok(Err(error)) => Err(format!("could not be run: {error}")),
            Ok(Ok(printed)) => printed.text(),
        };
        let token = text.and_then(|text| {
            let token = Token::read(&text, SystemTime::now());
            token.ok_or_else(|| "printed no token".to_owned())
        });
        token.map_err(|problem| Miss::Absent(format!("`az` {problem}")))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.0.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// Where tokens are asked for. A secret goes there, so it is reached by TLS, or is this machine.
    fn authority(&self) -> Result<Url, Miss> {
        let text = self.variable("AZURE_AUTHORITY_HOST").unwrap_or(AUTHORITY);
        let url = match text.contains("://") {
            true => Url::parse(text),
            false => Url::parse(&format!("https://{text}")),
        };
        url.ok().filter(service::is_safe).ok_or_else(|| {
            let problem = "expected AZURE_AUTHORITY_HOST to be an https URL";
            Miss::Failed(self.error(Kind::ConfigInvalid, problem))
        })
    }

    fn refused(&self, source: &str, problem: &service::Problem, secret: &str) -> Error {
        let what = Secret::new(secret).scrub(&problem.what).into_owned();
        let mut error = self.error(problem.kind, &format!("by {source}: {what}"));
        error.data.hint = problem.hint.map(Into::into);
        error
    }

    fn error(&self, kind: Kind, problem: &str) -> Error {
        let sentence = format!(
            "failed to get an Entra token for provider `{}`: {problem}",
            self.provider
        );
        Error::new(kind, sentence).with_provider(&self.provider)
    }
}
