//! Run steps: those that the upstream reports, and those of calls that no upstream reports.

use super::Run;
use crate::protocol::{RunEvent, RunStep, StepCall, ToolOutput};
use crate::provider::ToolCall;
use crate::transcript::Entry;

impl Run {
    /// A step as the upstream has it now. Outputs that only we know stay with it.
    pub(super) fn step(&mut self, mut step: RunStep) {
        for call in &mut step.calls {
            if let Some(offer) = call.name.as_deref().and_then(|name| self.toolbox.find(name)) {
                call.server = Some(offer.server.name().to_owned());
            }
        }
        if let Some(known) = self.known_step(|known| known.id == step.id) {
            for call in &mut step.calls {
                let known = known.calls.iter().find(|known| known.call_id == call.call_id);
                call.output = call
                    .output
                    .take()
                    .or_else(|| known.and_then(|known| known.output.clone()));
            }
            if known == step {
                return;
            }
        }
        self.entry(Entry::Step { step: step.clone() });
        self.event(RunEvent::Step { step });
    }

    /// A step for calls that the upstream has reported none for.
    pub(super) fn begin_calls(&mut self, calls: &[ToolCall]) {
        let unknown: Vec<StepCall> = calls
            .iter()
            .filter(|call| self.step_of(&call.id).is_none())
            .map(StepCall::from)
            .collect();
        let Some(first) = unknown.first() else {
            return;
        };
        // Some upstreams name the calls of each round alike.
        let mut id = format!("step_{}", first.call_id);
        if self.known_step(|step| step.id == id).is_some() {
            id = format!("{id}_{}", self.transcript.borrow().steps().len());
        }
        self.step(RunStep {
            id,
            kind: "toolCalls".into(),
            status: "inProgress".into(),
            calls: unknown,
            error: None,
            usage: None,
        });
    }

    /// Puts the outputs into the steps of their calls. Each step is told once, however many calls it has: told for each
    /// of a thousand calls, it would be a thousand times as long as it is.
    pub(super) fn finish_calls(&mut self, outputs: &[ToolOutput]) {
        let mut finished: Vec<RunStep> = Vec::new();
        for output in outputs {
            let has_call = |step: &RunStep| step.calls.iter().any(|call| call.call_id == output.call_id);
            let at = finished.iter().position(has_call).unwrap_or(finished.len());
            if at == finished.len() {
                finished.extend(self.step_of(&output.call_id));
            }
            let calls = finished.get_mut(at).into_iter().flat_map(|step| &mut step.calls);
            for call in calls.filter(|call| call.call_id == output.call_id) {
                call.output = Some(output.output.clone());
            }
        }
        for mut step in finished {
            if step.calls.iter().all(|call| call.output.is_some()) {
                step.status = "completed".into();
            }
            self.step(step);
        }
    }

    /// The step of a call of this round.
    fn step_of(&self, call_id: &str) -> Option<RunStep> {
        let transcript = self.transcript.borrow();
        let steps = &transcript.steps()[self.steps_before..];
        let is_its = |step: &&RunStep| step.calls.iter().any(|call| call.call_id == call_id);
        steps.iter().rev().find(is_its).cloned()
    }

    fn known_step(&self, wanted: impl Fn(&RunStep) -> bool) -> Option<RunStep> {
        let transcript = self.transcript.borrow();
        transcript.steps().iter().rev().find(|step| wanted(step)).cloned()
    }
}
