//! What the client is asked: to call a tool, to let one be called, to give a token.
//!
//! Requests to the client are the server's to send, so whoever needs one hands it in at the desk and waits for the
//! reply. Each has a time limit and an outcome when that passes; a client that has to ask its user may put its answer
//! off. Nothing here knows JSON-RPC.

use std::fmt;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::protocol::{
    AuthTokenParams, AuthTokenResult, Decision, ToolApproveParams, ToolApproveResult, ToolCallParams, ToolCallResult,
};

/// How long a client may take for what it has put off, and its user to approve a call.
const DEFERRED_LIMIT: Duration = Duration::from_secs(600);

/// How long a client may take to give a token.
const TOKEN_LIMIT: Duration = Duration::from_secs(30);

/// A question to the client.
#[derive(Debug)]
pub enum Question {
    /// `tool/call`
    Call(ToolCallParams),
    /// `tool/approve`
    Approve(ToolApproveParams),
    /// `auth/token`
    Token(AuthTokenParams),
}

impl Question {
    /// The run that it is asked for; a token is asked for before there is one.
    pub fn run_id(&self) -> Option<&str> {
        match self {
            Question::Call(params) => Some(&params.run_id),
            Question::Approve(params) => Some(&params.run_id),
            Question::Token(_) => None,
        }
    }

    /// The call that it is about.
    pub fn call_id(&self) -> Option<&str> {
        match self {
            Question::Call(params) => Some(&params.call_id),
            Question::Approve(params) => Some(&params.call_id),
            Question::Token(_) => None,
        }
    }
}

/// A question, handed in.
pub struct Ask {
    /// What the client is asked.
    pub question: Question,
    /// Where its answer goes. Closed if nobody waits for it any more.
    pub reply: oneshot::Sender<Reply>,
}

/// What the client said.
#[derive(Debug)]
pub enum Reply {
    /// Its answer, which is of the question's kind.
    Answer(Answer),
    /// Why there is none, in a sentence.
    Refused(String),
    /// It follows later.
    Deferred(oneshot::Receiver<Reply>),
}

/// An answer, by the kind of its question.
#[derive(Debug)]
pub enum Answer {
    /// What the tool gave.
    Output(ToolCallResult),
    /// Whether the call may be made.
    Decision(ToolApproveResult),
    /// The token.
    Token(AuthTokenResult),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// The client was not there to be asked, or has left.
    Gone,
    /// It said nothing for this long.
    Late(Duration),
    /// It said that it cannot, in these words.
    Refused(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Gone => f.write_str("the client is gone"),
            Unanswered::Late(limit) => write!(f, "the client did not answer within {} s", limit.as_secs_f64()),
            Unanswered::Refused(reason) => f.write_str(reason),
        }
    }
}

/// Where questions are handed in. Bounded; the server always takes.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Ask>);

impl Desk {
    /// A desk, and the server's end of it.
    pub fn new() -> (Desk, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(64);
        (Desk(sender), receiver)
    }

    /// `tool/call`: what the tool gave. `limit` holds until the client puts it off.
    pub async fn call(&self, params: ToolCallParams, limit: Duration) -> Result<ToolCallResult, Unanswered> {
        match self.ask(Question::Call(params), limit).await? {
            Answer::Output(result) => Ok(result),
            other => Err(foreign(&other)),
        }
    }

    /// `tool/approve`: what the user decided.
    pub async fn approve(&self, params: ToolApproveParams) -> Result<Decision, Unanswered> {
        match self.ask(Question::Approve(params), DEFERRED_LIMIT).await? {
            Answer::Decision(result) => Ok(result.decision.unwrap_or(Decision::Deny)),
            other => Err(foreign(&other)),
        }
    }

    /// `auth/token`: a key or token for a provider.
    pub async fn token(&self, params: AuthTokenParams) -> Result<AuthTokenResult, Unanswered> {
        match self.ask(Question::Token(params), TOKEN_LIMIT).await? {
            Answer::Token(result) => Ok(result),
            other => Err(foreign(&other)),
        }
    }

    async fn ask(&self, question: Question, mut limit: Duration) -> Result<Answer, Unanswered> {
        let (reply, mut answer) = oneshot::channel();
        let ask = Ask { question, reply };
        self.0.send(ask).await.map_err(|_| Unanswered::Gone)?;
        loop {
            let reply = tokio::time::timeout(limit, answer).await;
            let reply = reply.map_err(|_| Unanswered::Late(limit))?;
            match reply.map_err(|_| Unanswered::Gone)? {
                Reply::Answer(answer) => return Ok(answer),
                Reply::Refused(reason) => return Err(Unanswered::Refused(reason)),
                Reply::Deferred(later) => {
                    answer = later;
                    limit = DEFERRED_LIMIT;
                }
            }
        }
    }
}

/// The server decodes an answer by its question, so this is a bug of ours, and still no reason to stop a run.
fn foreign(answer: &Answer) -> Unanswered {
    tracing::error!(?answer, "an answer to another question came back");
    Unanswered::Refused("the answer belongs to another question".into())
}
