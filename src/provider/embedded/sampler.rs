//! Which token comes next.
//!
//! Temperature 0 takes the likeliest, always. Else the defaults are what the default model's makers advise (0.2, and
//! the likeliest tokens that together have 0.9), and tokens of the last [`REMEMBERED`] are made a little less likely,
//! since small models like to go in circles. The same seed makes the same choices.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::protocol::Options;

const TEMPERATURE: f64 = 0.2;
const TOP_P: f64 = 0.9;
const PENALTY: f32 = 1.1;
const REMEMBERED: usize = 64;

/// Tokens less likely than the likeliest by this power of e are no candidates: all of them together change nothing.
const NEGLIGIBLE: f32 = 20.0;

/// Chooses tokens for one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    recent: VecDeque<u32>,
    random: Random,
}

impl Sampler {
    /// A sampler by these options; a seed that nobody chose is drawn.
    pub(super) fn new(options: &Options) -> Sampler {
        let number = |option: Option<f64>, default: f64| option.filter(|n| n.is_finite()).unwrap_or(default) as f32;
        Sampler {
            temperature: number(options.temperature, TEMPERATURE),
            top_p: number(options.top_p, TOP_P),
            top_k: options.top_k.filter(|k| *k > 0).map_or(usize::MAX, |k| k as usize),
            recent: VecDeque::with_capacity(REMEMBERED),
            random: Random(
                options
                    .seed
                    .unwrap_or_else(|| RandomState::new().build_hasher().finish()),
            ),
        }
    }

    /// The next token, by the logits of all. None if there are none, or none that is a number.
    pub(super) fn choose(&mut self, mut logits: Vec<f32>) -> Option<u32> {
        if self.temperature <= 0.0 {
            return likeliest(&logits).map(|(id, _)| id);
        }
        self.penalize(&mut logits);
        let id = self.draw(self.candidates(&logits)?)?;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
        Some(id)
    }

    fn penalize(&self, logits: &mut [f32]) {
        for (index, id) in self.recent.iter().enumerate() {
            let is_first = !self.recent.iter().take(index).any(|earlier| earlier == id);
            if let Some(logit) = logits.get_mut(*id as usize).filter(|_| is_first) {
                *logit = if *logit > 0.0 {
                    *logit / PENALTY
                } else {
                    *logit * PENALTY
                };
            }
        }
    }

    /// The likeliest tokens with their weights, likeliest first.
    fn candidates(&self, logits: &[f32]) -> Option<Vec<(u32, f32)>> {
        let (_, most) = likeliest(logits)?;
        let floor = most - NEGLIGIBLE * self.temperature;
        let mut candidates: Vec<(u32, f32)> = (0..)
            .zip(logits)
            .filter(|(_, logit)| **logit >= floor)
            .map(|(id, logit)| (id, ((logit - most) / self.temperature).exp()))
            .collect();
        candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.truncate(self.top_k);
        let enough = self.top_p * candidates.iter().map(|(_, weight)| weight).sum::<f32>();
        let mut sum = 0.0;
        let count = candidates.iter().take_while(|(_, weight)| {
            let is_needed = sum < enough;
            sum += weight;
            is_needed
        });
        let count = count.count().max(1);
        candidates.truncate(count);
        Some(candidates)
    }

    fn draw(&mut self, candidates: Vec<(u32, f32)>) -> Option<u32> {
        let sum: f32 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.fraction() * sum;
        let chosen = candidates.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little at the end.
        chosen.or(candidates.last()).map(|(id, _)| *id)
    }
}

/// The first of the likeliest tokens, and its logit.
fn likeliest(logits: &[f32]) -> Option<(u32, f32)> {
    let numbers = (0..).zip(logits).filter(|(_, logit)| !logit.is_nan());
    numbers.fold(None, |best: Option<(u32, f32)>, (id, logit)| match best {
        Some((_, most)) if most >= *logit => best,
        _ => Some((id, *logit)),
    })
}

/// SplitMix64: small, and good enough to draw tokens.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// From 0 up to, but not including, 1.
    fn fraction(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_k: Option<u32>, top_p: Option<f64>, seed: u64) -> Sampler {
        Sampler::new(&Options {
            temperature: Some(temperature),
            top_k,
            top_p,
            seed: Some(seed),
            ..Options::default()
        })
    }

    fn draws(mut sampler: Sampler, logits: &[f32]) -> Vec<u32> {
        (0..200).filter_map(|_| sampler.choose(logits.to_vec())).collect()
    }

    #[test]
    fn temperature_0_takes_the_likeliest_every_time() {
        assert!(
            draws(sampler(0.0, None, None, 1), &[0.5, 2.0, 1.9])
                .iter()
                .all(|id| *id == 1)
        );
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let logits: Vec<f32> = (0..50).map(|n| (n % 7) as f32).collect();
        let with_seed = |seed| draws(sampler(1.0, None, None, seed), &logits);
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }

    #[test]
    fn top_k_and_top_p_leave_the_rest_out() {
        // The penalty brings the likeliest down to 9 at the most.
        let logits = [0.0, 10.0, 9.9, 8.0];
        let of_two = draws(sampler(1.0, Some(2), Some(1.0), 3), &logits);
        assert!(of_two.iter().all(|id| [1, 2].contains(id)) && of_two.contains(&1) && of_two.contains(&2));
        assert!(
            draws(sampler(1.0, None, Some(0.9), 3), &logits)
                .iter()
                .all(|id| *id != 0)
        );
        assert!(draws(sampler(2.0, None, Some(1.0), 3), &[0.0, 1.0]).contains(&0));
    }

    #[test]
    fn what_was_said_becomes_less_likely() {
        let mut greedy = sampler(1e-6, None, None, 5);
        assert_eq!(greedy.choose(vec![1.0, 1.05]), Some(1));
        assert_eq!(greedy.choose(vec![1.0, 1.05]), Some(0));
    }

    #[test]
    fn no_number_is_no_choice() {
        assert_eq!(sampler(0.0, None, None, 1).choose(vec![f32::NAN]), None);
        assert_eq!(sampler(1.0, None, None, 1).choose(Vec::new()), None);
    }
}
