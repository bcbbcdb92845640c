//! The settings together with what is found on this machine where nothing else is set.
//!
//! Looked for when somebody wants to know who answers and never before, so a start costs nothing. What was found is kept;
//! where nothing was, the next one who asks looks again, but not at every request.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Settings;
use crate::provider::local;

/// How long it is believed that there is no server.
const BELIEVED: Duration = Duration::from_secs(3);

/// What was found so far.
#[derive(Default)]
pub(super) struct Choosing {
    found: RefCell<Option<Rc<Settings>>>,
    /// When somebody looked in vain. Held while somebody looks, so that who comes meanwhile has the same answer.
    in_vain: Mutex<Option<Instant>>,
}

impl Choosing {
    /// The settings by which this assistant, or none, is chosen: these, or the same with a server that was found.
    pub(super) async fn settle(&self, settings: Rc<Settings>, assistant: Option<&str>) -> Rc<Settings> {
        let settings = self.settled(settings);
        if !settings.wants_local(assistant) {
            return settings;
        }
        let mut in_vain = self.in_vain.lock().await;
        let settings = self.settled(settings);
        let is_believed = in_vain.is_some_and(|at| at.elapsed() < BELIEVED);
        if settings.local.is_some() || is_believed {
            return settings;
        }
        match local::find(&settings).await {
            Some(server) => {
                let mut with_server = (*settings).clone();
                with_server.local = Some(server);
                let settings = Rc::new(with_server);
                *self.found.borrow_mut() = Some(settings.clone());
                settings
            }
            None => {
                *in_vain = Some(Instant::now());
                settings
            }
        }
    }

    /// The same as far as it is known, without looking.
    pub(super) fn settled(&self, settings: Rc<Settings>) -> Rc<Settings> {
        self.found.borrow().clone().unwrap_or(settings)
    }
}
