//! How a host changes over time. One small step at a time, as real hosts do: an update
//! and a reboot, a new application, a port closed. Never a reshuffle: the first service
//! is what the host is for and stays, and what was opened or closed last is not undone
//! by the next step.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::model::Service;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host begins to offer a service.
    Open(Service),
    /// It stops offering one.
    Close(Service),
    /// It installs its updates and restarts.
    Update,
}

impl Step {
    /// In words, as history keeps it.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Step::Open(service) => format!("open {service}"),
            Step::Close(service) => format!("close {service}"),
            Step::Update => "update".to_owned(),
        }
    }

    /// From [`Step::words`]; `None` for anything else.
    #[must_use]
    pub fn from_words(words: &str) -> Option<Self> {
        match words.split_once(' ') {
            Some(("open", service)) => service.parse().ok().map(Step::Open),
            Some(("close", service)) => service.parse().ok().map(Step::Close),
            None if words == "update" => Some(Step::Update),
            _ => None,
        }
    }

    /// The services after this step.
    #[must_use]
    pub fn applied_to(self, services: &[Service]) -> Vec<Service> {
        match self {
            Step::Open(service) => services.iter().copied().chain([service]).collect(),
            Step::Close(service) => services.iter().copied().filter(|s| *s != service).collect(),
            Step::Update => services.to_vec(),
        }
    }
}

/// What a step is chosen from.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// What it offers.
    pub services: &'a [Service],
    /// What a host of its kind could offer.
    pub pool: &'a [Service],
    /// The last step, when there was one.
    pub last: Option<Step>,
    /// Somebody is looking at it: nothing may disappear.
    pub visited: bool,
    /// An update is a change too; a request wants to see a port change when one can.
    pub services_only: bool,
}

/// The next step; `None` when this host cannot change without losing its sense.
#[must_use]
pub fn next(host: &Host<'_>, rng: &mut StdRng) -> Option<Step> {
    let undoes = |step: Step| {
        matches!(
            (host.last, step),
            (Some(Step::Open(a)), Step::Close(b)) | (Some(Step::Close(a)), Step::Open(b)) if a == b
        )
    };
    let opens = host
        .pool
        .iter()
        .filter(|s| !host.services.contains(s))
        .map(|s| Step::Open(*s));
    let closes = host
        .services
        .iter()
        .skip(1)
        .filter(|_| !host.visited)
        .map(|s| Step::Close(*s));
    // An opening is likelier than a closing: hosts grow.
    let mut changes: Vec<(u32, Step)> = opens
        .map(|s| (2, s))
        .chain(closes.map(|s| (1, s)))
        .collect();
    if changes.iter().any(|(_, step)| !undoes(*step)) {
        changes.retain(|(_, step)| !undoes(*step));
    } else if !host.services_only {
        // All that is left would be flapping.
        changes.clear();
    }
    if !host.services_only || changes.is_empty() {
        let restarts = !host.visited || host.services_only;
        changes.extend(restarts.then_some((4, Step::Update)));
    }
    let total: u32 = changes.iter().map(|(weight, _)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = rng.random_range(0..total);
    for (weight, step) in changes {
        if at < weight {
            return Some(step);
        }
        at -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const POOL: &[Service] = &[Service::Http, Service::Ftp, Service::Redis];

    fn host(services: &[Service]) -> Host<'_> {
        Host {
            services,
            pool: POOL,
            last: None,
            visited: false,
            services_only: true,
        }
    }

    #[test]
    fn a_thousand_steps_stay_within_the_pool_and_keep_the_first_service() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut services = vec![Service::Http];
        let mut last = None;
        for _ in 0..1000 {
            let step = next(
                &Host {
                    last,
                    services_only: false,
                    ..host(&services)
                },
                &mut rng,
            )
            .unwrap();
            let after = step.applied_to(&services);
            assert_eq!(after.first(), Some(&Service::Http), "{step:?}");
            assert!(after.iter().all(|s| POOL.contains(s)));
            assert!(after.len().abs_diff(services.len()) <= 1, "one at a time");
            if let (Some(Step::Open(a)), Step::Close(b)) = (last, step) {
                assert_ne!(a, b, "flapping");
            }
            assert_eq!(Step::from_words(&step.words()), Some(step));
            (services, last) = (after, Some(step));
        }
    }

    #[test]
    fn nothing_disappears_under_a_visitor() {
        let services = [Service::Http, Service::Ftp, Service::Redis];
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let watched = Host {
                visited: true,
                services_only: false,
                ..host(&services)
            };
            assert_eq!(next(&watched, &mut rng), None);
        }
    }

    #[test]
    fn a_request_changes_a_port_when_one_can_be_changed() {
        for seed in 0..50 {
            let mut rng = StdRng::seed_from_u64(seed);
            let step = next(&host(&[Service::Http]), &mut rng).unwrap();
            assert!(matches!(step, Step::Open(_)), "{step:?}");
            let alone = Host {
                pool: &[Service::Http],
                ..host(&[Service::Http])
            };
            assert_eq!(next(&alone, &mut rng), Some(Step::Update));
        }
    }
}
