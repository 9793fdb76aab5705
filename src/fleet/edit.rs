//! Changing one decky that is there: a service more or less, other settings, started
//! anew. Wishes in, wishes out; what is refused says which field is to blame.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fleet::ask::MUTATE_MAX_MIN;
use crate::fleet::ini::port_clash;
use crate::model::{Service, Wish, setting};

/// Values of one service's settings.
pub type Values = BTreeMap<String, Value>;

/// Why an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such service, or none this version speaks.
    #[error("{0}")]
    NoSuchService(String),
    /// The decky offers it already.
    #[error("it offers {0} already; change its settings instead")]
    Offered(String),
    /// The decky does not offer it.
    #[error("it does not offer '{0}'")]
    NotOffered(String),
    /// A decky without services is no decoy.
    #[error("'{0}' is its last service, and a decky offers at least one; remove the decky instead")]
    Last(String),
    /// Two sockets on one port.
    #[error("{0}")]
    Clash(String),
    /// A service of the operator's own has no settings.
    #[error("'{0}' runs from an image of your own; change [custom-{0}] in the deployment file")]
    Own(String),
    /// Settings that are unknown or not of their type: field and reason.
    #[error("{}", .0.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; "))]
    Settings(Vec<(String, String)>),
    /// No such interval.
    #[error("{0} minutes are too long; use up to {MUTATE_MAX_MIN} (a year), 0 for never")]
    Interval(u32),
}

/// The wish with a service more.
///
/// # Errors
/// Why not.
pub fn add_service(wish: &Wish, slug: &str, values: &Values) -> Result<Wish, Refused> {
    let service: Service = slug
        .parse()
        .map_err(|error| Refused::NoSuchService(format!("{error}")))?;
    let own = wish.customs.iter().any(|custom| custom.name == slug);
    if own || wish.services.contains(&service) {
        return Err(Refused::Offered(slug.to_owned()));
    }
    let mut after = by_hand(wish);
    after.services.push(service);
    if let Some(clash) = port_clash(&after.services, &after.customs) {
        return Err(Refused::Clash(clash));
    }
    set(&mut after, service, values)?;
    Ok(after)
}

/// The wish with a service less, its settings gone with it.
///
/// # Errors
/// Why not.
pub fn remove_service(wish: &Wish, slug: &str) -> Result<Wish, Refused> {
    let mut after = by_hand(wish);
    after.services.retain(|service| service.slug() != slug);
    after.customs.retain(|custom| custom.name != slug);
    if after.services.len() == wish.services.len() && after.customs.len() == wish.customs.len() {
        return Err(Refused::NotOffered(slug.to_owned()));
    }
    if after.services.is_empty() && after.customs.is_empty() {
        return Err(Refused::Last(slug.to_owned()));
    }
    after.settings.retain(|service, _| service.slug() != slug);
    Ok(after)
}

/// The wish with exactly these settings of a service.
///
/// # Errors
/// Why not.
pub fn configure(wish: &Wish, slug: &str, values: &Values) -> Result<Wish, Refused> {
    if wish.customs.iter().any(|custom| custom.name == slug) {
        return Err(Refused::Own(slug.to_owned()));
    }
    let offered = wish.services.iter().find(|s| s.slug() == slug).copied();
    let service = offered.ok_or_else(|| Refused::NotOffered(slug.to_owned()))?;
    let mut after = wish.clone();
    set(&mut after, service, values)?;
    Ok(after)
}

/// The wish with another interval between mutations.
///
/// # Errors
/// That it is too long.
pub fn mutate_every(wish: &Wish, minutes: Option<u32>) -> Result<Wish, Refused> {
    if let Some(minutes) = minutes.filter(|minutes| *minutes > MUTATE_MAX_MIN) {
        return Err(Refused::Interval(minutes));
    }
    Ok(Wish {
        mutate_interval: minutes,
        ..wish.clone()
    })
}

/// The same wish, to be started anew.
#[must_use]
pub fn anew(wish: &Wish) -> Wish {
    Wish {
        generation: wish.generation.wrapping_add(1),
        ..wish.clone()
    }
}

/// What somebody changes by hand is what is deployed from now on.
fn by_hand(wish: &Wish) -> Wish {
    Wish {
        deployed: None,
        ..wish.clone()
    }
}

/// A value that is null is not set.
fn set(wish: &mut Wish, service: Service, values: &Values) -> Result<(), Refused> {
    let (mut fine, mut bad) = (Values::new(), Vec::new());
    for (key, value) in values.iter().filter(|(_, value)| !value.is_null()) {
        match setting::check(service, key, value) {
            Ok(value) => {
                fine.insert(key.clone(), value);
            }
            Err(why) => bad.push((key.clone(), why)),
        }
    }
    if !bad.is_empty() {
        return Err(Refused::Settings(bad));
    }
    if fine.is_empty() {
        wish.settings.remove(&service);
    } else {
        wish.settings.insert(service, fine);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(services: &[Service]) -> Wish {
        Wish {
            services: services.to_vec(),
            deployed: Some(vec![Service::Http]),
            ..Wish::default()
        }
    }

    fn values(value: Value) -> Values {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_service_is_added_with_settings_of_its_schema_only() {
        let before = wish(&[Service::Http]);
        let given = values(json!({"anonymous": false, "banner": null}));
        let after = add_service(&before, "ftp", &given).unwrap();
        assert_eq!(after.services, [Service::Http, Service::Ftp]);
        assert_eq!(
            after.settings[&Service::Ftp],
            values(json!({"anonymous": false}))
        );
        assert_eq!(after.deployed, None);
        let bad = values(json!({"anonymous": "nein", "nla": 1}));
        let Err(Refused::Settings(bad)) = add_service(&before, "ftp", &bad) else {
            panic!("accepted");
        };
        let fields: Vec<&str> = bad.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["anonymous", "nla"]);
        let none = Values::new();
        let offered = add_service(&before, "http", &none).unwrap_err();
        assert_eq!(offered, Refused::Offered("http".into()));
        for slug in ["ssh", "nonsense", ""] {
            let refused = add_service(&before, slug, &none).unwrap_err();
            assert!(matches!(refused, Refused::NoSuchService(_)), "{slug}");
        }
    }

    #[test]
    fn the_last_service_stays() {
        let before = wish(&[Service::Http]);
        let last = remove_service(&before, "http").unwrap_err();
        assert_eq!(last, Refused::Last("http".into()));
        let two = add_service(&before, "ftp", &values(json!({"anonymous": true}))).unwrap();
        let one = remove_service(&two, "ftp").unwrap();
        assert_eq!((one.services.len(), one.settings.len()), (1, 0));
        let absent = remove_service(&before, "redis").unwrap_err();
        assert_eq!(absent, Refused::NotOffered("redis".into()));
    }

    #[test]
    fn settings_are_replaced_as_a_whole() {
        let before = wish(&[Service::Http]);
        let first = configure(&before, "http", &values(json!({"response_code": 503}))).unwrap();
        let second = configure(&first, "http", &values(json!({"fake_app": "login"}))).unwrap();
        let expected = values(json!({"fake_app": "login"}));
        assert_eq!(second.settings[&Service::Http], expected);
        assert!(
            configure(&second, "http", &Values::new())
                .unwrap()
                .settings
                .is_empty()
        );
        assert!(configure(&before, "ftp", &Values::new()).is_err());
    }

    #[test]
    fn an_interval_is_a_number_or_nothing() {
        let before = wish(&[Service::Http]);
        let after = mutate_every(&before, Some(30)).unwrap();
        assert_eq!(after.mutate_interval, Some(30));
        assert_eq!(mutate_every(&after, None).unwrap().mutate_interval, None);
        assert!(mutate_every(&before, Some(MUTATE_MAX_MIN + 1)).is_err());
    }
}
