//! Chains, and the anchors they lead to.

use super::*;

#[test]
fn a_chain_over_two_intermediates_proves_with_and_without_its_root() {
    let root = ca();
    let issuing = root
        .intermediate("Policy CA")
        .unwrap()
        .intermediate("Issuing CA")
        .unwrap();
    let issued = server(&issuing);
    let without = prove(issued.parts()).unwrap();
    assert_eq!(without.all_facts().len(), 3);
    let with_root = chain(&[&issued.chain_pem, root.ca_pem()]);
    let with = prove(Parts::identity(with_root, issued.key_pem.as_str())).unwrap();
    assert_eq!(with.all_facts().len(), 4);
    assert_eq!(
        with.certified_key().unwrap().cert.len(),
        3,
        "the root is not sent"
    );
    assert_ne!(with.fingerprint(), without.fingerprint());
}

#[test]
fn a_chain_in_the_wrong_order_is_refused() {
    let root = ca();
    let intermediate = root.intermediate("Issuing CA").unwrap();
    let leaf = root.intermediate("Other CA").unwrap();
    let issued = server(&intermediate);
    let leaf_pem = issued.chain_pem.replace(intermediate.ca_pem(), "");
    let key = issued.key_pem.as_str();

    let reversed = chain(&[intermediate.ca_pem(), &leaf_pem]);
    assert_eq!(
        why(prove(Parts::identity(reversed, key))).0,
        "leaf_not_first"
    );
    for following in [
        chain(&[root.ca_pem(), intermediate.ca_pem()]),
        leaf.ca_pem().to_owned(),
    ] {
        let (label, text) = why(prove(Parts::identity(chain(&[&leaf_pem, &following]), key)));
        assert_eq!(
            (label, text.contains("CN=Issuing CA")),
            ("chain_out_of_order", true),
            "{text}"
        );
    }
}

#[test]
fn an_issuer_that_is_no_ca_is_refused() {
    let ca = ca();
    let issued = server(&ca);
    // A self-issued leaf that has the CA's name: the name fits, the extension does not.
    let impostor = self_signed("Test CA", false);
    let parts = Parts::identity(
        chain(&[&issued.chain_pem, &impostor.0]),
        issued.key_pem.as_str(),
    );
    assert_eq!(why(prove(parts)).0, "not_a_ca");
}

#[test]
fn a_signature_by_another_key_of_the_same_name_is_refused() {
    let (ca, namesake) = (ca(), ca());
    let issued = server(&ca);
    let parts = Parts::identity(
        chain(&[&issued.chain_pem, namesake.ca_pem()]),
        issued.key_pem.as_str(),
    );
    assert_eq!(why(prove(parts)).0, "broken_signature");
}

#[test]
fn a_self_signed_leaf_proves_if_its_own_signature_does() {
    let (certificate, key) = self_signed("a.example", false);
    prove(Parts::identity(&certificate, &key)).unwrap();
    let (certificate, key) = self_signed("a.example", true);
    prove(Parts::identity(&certificate, &key)).unwrap();
}

#[test]
fn a_leaf_that_is_a_ca_is_refused_under_another_ca() {
    let root = ca();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer_key = rcgen::KeyPair::from_pem(&root.ca_key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(root.ca_pem(), issuer_key).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap().pem();
    let parts = Parts::identity(chain(&[&leaf, root.ca_pem()]), key.serialize_pem());
    assert_eq!(why(prove(parts)).0, "broken_path");
}

#[test]
fn an_expired_issuer_is_refused_too() {
    let root = DevCa::valid("Old CA", 1_600_000_000, 1_700_000_000).unwrap();
    let issued = server(&root);
    let parts = Parts::identity(
        chain(&[&issued.chain_pem, root.ca_pem()]),
        issued.key_pem.as_str(),
    );
    let (label, text) = why(prove(parts));
    assert_eq!(
        (label, text.contains("CN=Old CA")),
        ("expired", true),
        "{text}"
    );
}

#[test]
fn a_chain_that_leads_to_none_of_the_anchors_is_refused() {
    let (ours, theirs) = (ca(), ca());
    let trust = |ca: &DevCa| {
        Bundle::prove(ca.trust(), &Expectations::trust(), now())
            .unwrap()
            .roots()
    };
    let issued = server(&ours.intermediate("Issuing CA").unwrap());
    let expect = |ca| Expectations::server().anchored_in(trust(ca));
    Bundle::prove(issued.parts(), &expect(&ours), now()).unwrap();
    let (label, _) = why(Bundle::prove(issued.parts(), &expect(&theirs), now()));
    assert_eq!(label, "untrusted_issuer");
    // A client is held against the anchors that come with it; for a server they may be its clients'.
    let client = ours.client("postern").unwrap();
    let ships = |ca: &DevCa| client.parts().with_anchors(ca.ca_pem());
    let proven = Bundle::prove(ships(&ours), &Expectations::client(), now()).unwrap();
    assert_eq!(proven.roots().len(), 1);
    let refused = Bundle::prove(ships(&theirs), &Expectations::client(), now());
    assert_eq!(why(refused).0, "untrusted_issuer");
    prove(issued.parts().with_anchors(theirs.ca_pem())).unwrap();
}

#[test]
fn trust_anchors_prove_and_carry_no_key() {
    let (one, two) = (ca(), ca());
    let parts = Parts::anchors(chain(&[one.ca_pem(), two.ca_pem()]));
    let bundle = Bundle::prove(parts, &Expectations::trust(), now()).unwrap();
    assert_eq!((bundle.roots().len(), bundle.all_facts().len()), (2, 2));
    assert!(bundle.certified_key().is_none() && bundle.key_pem().is_none());
    let leaf = Parts::anchors(server(&one).chain_pem);
    assert_eq!(
        why(Bundle::prove(leaf, &Expectations::trust(), now())).0,
        "not_a_ca"
    );
}

#[test]
fn a_closed_anchor_is_left_out_and_only_closed_ones_are_refused() {
    let good = ca();
    let old = DevCa::valid("Old CA", 1_600_000_000, 1_700_000_000).unwrap();
    let coming = DevCa::valid("Coming CA", unix(100), unix(10_000)).unwrap();
    let text = chain(&[old.ca_pem(), good.ca_pem(), coming.ca_pem()]);
    let bundle = Bundle::prove(Parts::anchors(text), &Expectations::trust(), now()).unwrap();
    assert_eq!(bundle.facts().subject, "CN=Test CA");
    assert_eq!(bundle.roots().len(), 1);
    assert!(
        bundle.changes_at().is_some_and(|at| at <= unix(100)),
        "when the coming one begins"
    );
    let none = Parts::anchors(chain(&[old.ca_pem(), coming.ca_pem()]));
    assert_eq!(
        why(Bundle::prove(none, &Expectations::trust(), now())).0,
        "expired"
    );
}

fn self_signed(name: &str, is_ca: bool) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new([name.replace(' ', "-").to_lowercase()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    if is_ca {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
