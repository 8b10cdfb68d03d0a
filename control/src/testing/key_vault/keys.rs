//! `/keys`: the keys of certificates. There are no others here.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use super::answers::{Refusal, bad};
use super::object::CertificateVersion;
use super::paging;
use super::service::{Call, Service};
use crate::testing::http::Answer;

const KIND: &str = "Key";

/// Answers what begins with `/keys`.
pub(super) fn answer(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let find = |name: &str, version: Option<&str>| {
        let not_found = |_| Refusal::NotFound(KIND, name.to_owned());
        objects.certificate(name, version).map_err(not_found)
    };
    let get = call.method == Method::GET;
    let post = call.method == Method::POST;
    match call.rest {
        [] if get => {
            let all = objects.certificates.iter().filter_map(|(name, object)| {
                let newest = object.versions.last()?;
                Some(item(&format!("{}/keys/{name}", call.base), newest))
            });
            paging::page(call, all.collect())
        }
        [name, "versions"] if get => {
            let versions = objects
                .certificates
                .get(*name)
                .map_or(&[][..], |object| &object.versions);
            let items = versions
                .iter()
                .map(|version| item(&id(call.base, name, version), version));
            let mut items: Vec<_> = items.collect();
            items.sort_by_key(|item| item["kid"].to_string());
            paging::page(call, items)
        }
        [name] if get => Ok(show(call.base, name, find(name, None)?)),
        [name, "sign"] if post => sign(service, call, name, find(name, None)?),
        [name, version] if get => Ok(show(call.base, name, find(name, Some(version))?)),
        [name, version, "sign"] if post => sign(service, call, name, find(name, Some(version))?),
        [] | [_] | [_, _] | [_, _, "sign"] => Err(Refusal::NoSuchMethod),
        _ => Err(Refusal::NoSuchPath),
    }
}

fn sign(
    service: &Service,
    call: &Call<'_>,
    name: &str,
    version: &CertificateVersion,
) -> Result<Answer, Refusal> {
    if !version.attributes.enabled {
        return Err(Refusal::Disabled(KIND, "sign"));
    }
    // "Not-yet-valid and expired keys … will work for decrypt, unwrap and verify": not for sign.
    let now = service.now();
    let attributes = &version.attributes;
    if attributes.not_before.is_some_and(|begin| now < begin) {
        return Err(Refusal::OutOfWindow("NotYetValid", "sign"));
    }
    if attributes.expires.is_some_and(|end| end <= now) {
        return Err(Refusal::OutOfWindow("Expired", "sign"));
    }
    let text = |field: &str| {
        let value = call.body[field].as_str();
        value.ok_or_else(|| bad(format!("Property {field} is missing")))
    };
    let digest = BASE64_URL_SAFE_NO_PAD.decode(text("value")?);
    let digest = digest.map_err(|_| bad("Property value has invalid value"))?;
    let signature = version.key.sign(text("alg")?, &digest)?;
    Ok(Answer::ok(json!({
        "kid": id(call.base, name, version),
        "value": BASE64_URL_SAFE_NO_PAD.encode(signature),
    })))
}

fn show(base: &str, name: &str, version: &CertificateVersion) -> Answer {
    let mut key = version.key.jwk();
    key["kid"] = json!(id(base, name, version));
    Answer::ok(json!({
        "key": key,
        "attributes": version.attributes.show(),
        "tags": version.tags,
        "managed": true,
    }))
}

fn item(kid: &str, version: &CertificateVersion) -> Value {
    json!({
        "kid": kid,
        "attributes": version.attributes.show(),
        "tags": version.tags,
        "managed": true,
    })
}

fn id(base: &str, name: &str, version: &CertificateVersion) -> String {
    format!("{base}/keys/{name}/{}", version.id)
}
