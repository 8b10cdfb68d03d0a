//! A certificate's policy: what a vault is to make.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use serde_json::{Map, Value, json};

use super::answers::{Refusal, bad};
use super::contents::Contents;
use super::key::{Key, KeyKind};

/// What the fields of a policy that are left out are taken for.
fn defaults() -> Value {
    json!({
        "key_props": { "exportable": true, "kty": "RSA", "reuse_key": false },
        "secret_props": { "contentType": "application/x-pkcs12" },
        "x509_props": {
            "subject": "",
            "ekus": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
            "key_usage": ["digitalSignature", "keyEncipherment"],
            "validity_months": 12,
        },
        "lifetime_actions": [
            { "trigger": { "lifetime_percentage": 80 }, "action": { "action_type": "EmailContacts" } }
        ],
        "issuer": { "name": "Unknown" },
        "attributes": { "enabled": true },
    })
}

/// A policy with nothing left out, as JSON.
#[derive(Debug, Clone)]
pub(super) struct Policy(Value);

impl Policy {
    /// This one, completed from `before`, or from the defaults of the service.
    pub(super) fn new(given: &Value, before: Option<&Self>) -> Result<Self, Refusal> {
        let mut policy = before.map_or_else(defaults, |policy| policy.0.clone());
        merge(&mut policy, given);
        let properties = &mut policy["key_props"];
        match KeyKind::parse(properties)? {
            KeyKind::Rsa(_) if properties["key_size"].is_null() => {
                properties["key_size"] = json!(2048);
            }
            KeyKind::P256 if properties["crv"].is_null() => properties["crv"] = json!("P-256"),
            _ => {}
        }
        let policy = Self(policy);
        policy.contents()?;
        Ok(policy)
    }

    /// This one, for a key that is there.
    pub(super) fn of(given: &Value, key: &Key) -> Result<Self, Refusal> {
        let mut given = given.clone();
        merge(&mut given, &json!({ "key_props": key.properties() }));
        Self::new(&given, None)
    }

    /// As it is shown.
    pub(super) fn show(&self, id: &str) -> Value {
        let mut shown = self.0.clone();
        shown["id"] = json!(id);
        shown
    }

    pub(super) fn key_kind(&self) -> Result<KeyKind, Refusal> {
        KeyKind::parse(&self.0["key_props"])
    }

    pub(super) fn exportable(&self) -> bool {
        self.0["key_props"]["exportable"].as_bool().unwrap_or(true)
    }

    pub(super) fn reuses_key(&self) -> bool {
        self.0["key_props"]["reuse_key"].as_bool().unwrap_or(false)
    }

    pub(super) fn contents(&self) -> Result<Contents, Refusal> {
        Contents::parse(
            self.0["secret_props"]["contentType"]
                .as_str()
                .unwrap_or_default(),
        )
    }

    pub(super) fn issuer(&self) -> &str {
        self.0["issuer"]["name"].as_str().unwrap_or("Unknown")
    }

    /// Months of validity of what the issuer `Self` makes.
    pub(super) fn validity_months(&self) -> i64 {
        self.0["x509_props"]["validity_months"]
            .as_i64()
            .unwrap_or(12)
    }

    /// Subject, names and usages of the certificate.
    pub(super) fn certificate(&self) -> Result<CertificateParams, Refusal> {
        let wanted = &self.0["x509_props"];
        let invalid = |error| bad(format!("Property x509_props has invalid value: {error}"));
        let names = strings(&wanted["sans"]["dns_names"]).map(str::to_owned);
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).map_err(invalid)?;
        for address in strings(&wanted["sans"]["ipAddresses"]) {
            let address = address
                .parse()
                .map_err(|_| bad("Property ipAddresses has invalid value"))?;
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        for uri in strings(&wanted["sans"]["uris"]) {
            let uri = uri.try_into().map_err(invalid)?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        for email in strings(&wanted["sans"]["emails"]) {
            let email = email.try_into().map_err(invalid)?;
            params.subject_alt_names.push(SanType::Rfc822Name(email));
        }
        params.distinguished_name = subject(wanted["subject"].as_str().unwrap_or_default())?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = strings(&wanted["key_usage"])
            .map(key_usage)
            .collect::<Result<_, _>>()?;
        params.extended_key_usages = strings(&wanted["ekus"])
            .map(extended_key_usage)
            .collect::<Result<_, _>>()?;
        Ok(params)
    }
}

/// Puts what is given over what is there. An explicit `null`, which some SDKs send, says nothing.
fn merge(there: &mut Value, given: &Value) {
    match (there, given) {
        (_, Value::Null) => {}
        (Value::Object(there), Value::Object(given)) => {
            for (name, given) in given {
                merge(there.entry(name.clone()).or_insert(Value::Null), given);
            }
        }
        (there @ Value::Null, Value::Object(given)) => {
            *there = Value::Object(Map::new());
            merge(there, &Value::Object(given.clone()));
        }
        (there, given) => *there = given.clone(),
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// `CN=a, O=b`, as Key Vault takes it. A value with a comma in it is beyond this stand-in.
fn subject(text: &str) -> Result<DistinguishedName, Refusal> {
    let mut name = DistinguishedName::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let wrong =
            || bad("Property subject has invalid value\r\nThe subject is not a valid X500 name.");
        let (attribute, value) = part.split_once('=').ok_or_else(wrong)?;
        let attribute = match attribute.trim().to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "S" | "ST" => DnType::StateOrProvinceName,
            "L" => DnType::LocalityName,
            _ => return Err(wrong()),
        };
        name.push(attribute, value.trim().trim_matches('"'));
    }
    Ok(name)
}

fn key_usage(name: &str) -> Result<KeyUsagePurpose, Refusal> {
    Ok(match name {
        "digitalSignature" => KeyUsagePurpose::DigitalSignature,
        "nonRepudiation" => KeyUsagePurpose::ContentCommitment,
        "keyEncipherment" => KeyUsagePurpose::KeyEncipherment,
        "dataEncipherment" => KeyUsagePurpose::DataEncipherment,
        "keyAgreement" => KeyUsagePurpose::KeyAgreement,
        "keyCertSign" => KeyUsagePurpose::KeyCertSign,
        "cRLSign" => KeyUsagePurpose::CrlSign,
        "encipherOnly" => KeyUsagePurpose::EncipherOnly,
        "decipherOnly" => KeyUsagePurpose::DecipherOnly,
        other => {
            return Err(bad(format!(
                "Property key_usage has invalid value: {other}"
            )));
        }
    })
}

fn extended_key_usage(oid: &str) -> Result<ExtendedKeyUsagePurpose, Refusal> {
    let arcs: Result<Vec<u64>, _> = oid.split('.').map(str::parse).collect();
    match oid {
        "1.3.6.1.5.5.7.3.1" => Ok(ExtendedKeyUsagePurpose::ServerAuth),
        "1.3.6.1.5.5.7.3.2" => Ok(ExtendedKeyUsagePurpose::ClientAuth),
        _ => arcs
            .map(ExtendedKeyUsagePurpose::Other)
            .map_err(|_| bad(format!("Property ekus has invalid value: {oid}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_before_and_then_as_the_service_has_it() {
        let first = json!({ "key_props": { "kty": "EC", "crv": null }, "issuer": { "name": "Self" },
            "x509_props": { "subject": "CN=a.example, O=Clinic", "sans": { "dns_names": ["a.example"] } } });
        let first = Policy::new(&first, None).unwrap();
        assert_eq!(first.key_kind().unwrap(), KeyKind::P256);
        assert!(first.exportable());
        let second = json!({ "secret_props": { "contentType": "application/x-pem-file" } });
        let second = Policy::new(&second, Some(&first)).unwrap();
        assert_eq!(second.issuer(), "Self");
        assert_eq!(second.contents().unwrap(), Contents::Pem);
        assert_eq!(second.show("id")["key_props"]["crv"], "P-256");
        assert_eq!(second.certificate().unwrap().subject_alt_names.len(), 1);
    }

    #[test]
    fn nonsense_is_a_bad_parameter() {
        for policy in [
            json!({ "key_props": { "kty": "oct" } }),
            json!({ "secret_props": { "contentType": "text/plain" } }),
            json!({ "key_props": { "key_size": 512 } }),
        ] {
            let refused = Policy::new(&policy, None).unwrap_err();
            assert!(matches!(refused, Refusal::BadParameter(_)), "{refused:?}");
        }
        assert!(subject("nonsense").is_err());
    }
}
