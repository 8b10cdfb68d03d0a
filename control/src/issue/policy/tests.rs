use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 3600;

fn options() -> PolicyOptions {
    PolicyOptions {
        subject: "CN=postern, O=Example".to_owned(),
        names: vec!["postern.internal.example".to_owned()],
        key: KeyKind::EcP256,
        lifetime: Duration::from_hours(90 * 24),
        renew_at: 0.66,
        usage: Usage::Client,
    }
}

fn policy() -> Policy {
    options().try_into().unwrap()
}

fn standing(from: i64, to: i64) -> Standing {
    Standing {
        not_before: from * DAY,
        not_after: to * DAY,
        superseded: false,
    }
}

#[test]
fn a_version_is_due_when_there_is_none_and_when_its_time_is_up() {
    let policy = policy();
    let due = |now: i64, standing: Option<Standing>| {
        is_due(now * DAY, standing.as_ref(), &policy, 10_000 * DAY)
    };
    assert_eq!(due(0, None), Some(Due::Missing));
    let ninety_days = Some(standing(0, 90));
    assert_eq!(due(59, ninety_days), None);
    assert_eq!(due(60, ninety_days), Some(Due::Age));
    assert_eq!(due(500, ninety_days), Some(Due::Age));
    // Before its window: the clock was set back.
    assert_eq!(due(-5, ninety_days), None);
}

#[test]
fn a_version_of_a_superseded_ca_is_due_whatever_its_age() {
    let superseded = Standing {
        superseded: true,
        ..standing(0, 90)
    };
    assert_eq!(
        is_due(DAY, Some(&superseded), &policy(), 10_000 * DAY),
        Some(Due::Authority)
    );
}

#[test]
fn near_the_end_of_the_ca_no_version_is_made_that_ends_no_later() {
    let policy = policy();
    let ends_with_the_ca = standing(0, 90);
    assert_eq!(
        is_due(80 * DAY, Some(&ends_with_the_ca), &policy, 90 * DAY),
        None
    );
    assert_eq!(
        is_due(80 * DAY, Some(&ends_with_the_ca), &policy, 91 * DAY),
        Some(Due::Age)
    );
}

proptest! {
    #[test]
    fn once_due_for_its_age_a_version_stays_due(
        from in 0_i64..1_000_000_000, length in 1_i64..400_000_000, at in 0_i64..500_000_000, later in 0_i64..500_000_000,
        renew_at in 0.01..0.99,
    ) {
        let policy: Policy = PolicyOptions { renew_at, ..options() }.try_into().unwrap();
        let standing = Standing { not_before: from, not_after: from + length, superseded: false };
        let due = |now| is_due(now, Some(&standing), &policy, i64::MAX).is_some();
        prop_assert!(!due(from + at) || due(from + at + later));
        // A version that was just made is never due, so that two instances do not take turns.
        let fresh = Standing { not_before: from - 300, not_after: from + policy.lifetime(), superseded: false };
        prop_assert_eq!(is_due(from, Some(&fresh), &policy, i64::MAX), None);
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused() {
    let refused = |change: fn(&mut PolicyOptions)| {
        let mut options = options();
        change(&mut options);
        Policy::try_from(options).unwrap_err().to_string()
    };
    assert!(refused(|o| o.subject = "postern".into()).contains("no subject"));
    assert!(refused(|o| o.subject = "O=Example".into()).contains("no subject"));
    assert!(refused(|o| o.subject = "CN=a\\, b".into()).contains("no subject"));
    assert!(refused(|o| o.subject = "CN=".into()).contains("no subject"));
    assert!(refused(|o| o.subject = "CN=a, XX=b".into()).contains("no subject"));
    assert!(refused(|o| o.names = vec!["a b".into()]).contains("no DNS name"));
    assert!(refused(|o| o.names = vec!["a..b".into()]).contains("no DNS name"));
    assert!(refused(|o| o.names = vec!["a.*.b".into()]).contains("no DNS name"));
    assert!(refused(|o| o.names = vec!["a.b".into(); 101]).contains("101 names"));
    assert!(refused(|o| (o.names, o.usage) = (Vec::new(), Usage::Both)).contains("needs a name"));
    assert!(refused(|o| o.lifetime = Duration::from_mins(59)).contains("an hour at least"));
    assert!(refused(|o| o.renew_at = 1.0).contains("below 1"));
    assert!(refused(|o| o.renew_at = f64::NAN).contains("below 1"));
}

#[test]
fn the_vault_is_asked_for_what_the_policy_says() {
    let options = PolicyOptions {
        subject: " cn = postern ,O=Example".to_owned(),
        usage: Usage::Both,
        ..options()
    };
    let new = Policy::try_from(options).unwrap().new_certificate();
    assert_eq!(new.subject, "CN=postern, O=Example");
    assert_eq!(new.extended_key_usages, [SERVER_AUTH, CLIENT_AUTH]);
    assert_eq!(new.validity_months, 3);
}
