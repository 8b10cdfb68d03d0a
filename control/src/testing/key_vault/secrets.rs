//! `/secrets` and `/deletedsecrets`: those of certificates, and those by themselves.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answers::{Refusal, bad};
use super::object::{Attributes, CertificateVersion, Deleted, SecretVersion, new_id, tags};
use super::paging;
use super::service::{Call, Service};
use crate::testing::http::Answer;

const KIND: &str = "Secret";

/// The value of a certificate's secret while the switch `garbage` is on. Valid base64, as a cut-off value
/// is not even.
const GARBAGE: &str = "bm90IFBLQ1MjMTI=";

/// Answers what begins with `/secrets`.
pub(super) fn answer(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let get = call.method == Method::GET;
    match call.rest {
        [] if get => list(service, call),
        [name] if get => read(service, call, name, None),
        [name] if call.method == Method::PUT => set(service, call, name),
        [name] if call.method == Method::DELETE => delete(service, call, name),
        [name] if call.method == Method::PATCH => update(service, call, name, None),
        [name, "versions"] if get => versions(service, call, name),
        [name, version] if get => read(service, call, name, Some(version)),
        [name, version] if call.method == Method::PATCH => {
            update(service, call, name, Some(version))
        }
        [] | [_] | [_, _] => Err(Refusal::NoSuchMethod),
        _ => Err(Refusal::NoSuchPath),
    }
}

/// Answers what begins with `/deletedsecrets`.
pub(super) fn answer_deleted(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let base = call.base;
    let missing = |name: &str| Refusal::DeletedNotFound(KIND, name.to_owned());
    let shown = |name: &str, deleted: &Deleted<Vec<SecretVersion>>| {
        let newest = deleted.object.last();
        let shown = newest.map_or(Value::Null, |newest| item(base, name, newest, false));
        deleted.show(shown, &format!("{base}/deletedsecrets/{name}"))
    };
    match (call.method.as_str(), call.rest) {
        ("GET", []) => {
            let all = objects.deleted_secrets.iter();
            paging::page(
                call,
                all.map(|(name, deleted)| shown(name, deleted)).collect(),
            )
        }
        ("GET", [name]) => {
            let deleted = objects
                .deleted_secrets
                .get(*name)
                .ok_or_else(|| missing(name))?;
            Ok(Answer::ok(shown(name, deleted)))
        }
        ("DELETE", [name]) => {
            objects
                .deleted_secrets
                .remove(*name)
                .ok_or_else(|| missing(name))?;
            Ok(Answer::new(StatusCode::NO_CONTENT, Value::Null))
        }
        ("POST", [name, "recover"]) => {
            let versions = objects
                .deleted_secrets
                .remove(*name)
                .ok_or_else(|| missing(name))?
                .object;
            let newest = versions.last();
            let shown = newest.map_or(Value::Null, |newest| item(base, name, newest, false));
            objects.secrets.insert((*name).to_owned(), versions);
            Ok(Answer::ok(shown))
        }
        (_, [] | [_] | [_, "recover"]) => Err(Refusal::NoSuchMethod),
        _ => Err(Refusal::NoSuchPath),
    }
}

fn list(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let own = objects
        .secrets
        .iter()
        .filter_map(|(name, versions)| Some(item(call.base, name, versions.last()?, true)));
    let of_certificates = objects.certificates.iter().filter_map(|(name, object)| {
        Some(managed_item(call.base, name, object.versions.last()?, true))
    });
    paging::page(call, own.chain(of_certificates).collect())
}

fn versions(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let own = objects.secrets.get(name).into_iter().flatten();
    let mut items: Vec<_> = own
        .map(|version| item(call.base, name, version, false))
        .collect();
    if let Some(object) = objects.certificates.get(name) {
        let versions = object.versions.iter();
        items.extend(versions.map(|version| managed_item(call.base, name, version, false)));
    }
    // The service promises no order; this one makes sure that nobody relies on one.
    items.sort_by_key(|item| item["id"].to_string());
    paging::page(call, items)
}

fn read(
    service: &Service,
    call: &Call<'_>,
    name: &str,
    version: Option<&str>,
) -> Result<Answer, Refusal> {
    let objects = service.objects();
    if objects.certificates.contains_key(name) {
        let not_found = |_| Refusal::NotFound(KIND, name.to_owned());
        let version = objects.certificate(name, version).map_err(not_found)?;
        if !version.attributes.enabled {
            return Err(Refusal::Disabled(KIND, "get"));
        }
        let faults = service.faults();
        let value = if faults.garbage.contains(name) {
            GARBAGE.to_owned()
        } else {
            let other = faults.key_of.get(name);
            let other = other.and_then(|other| objects.certificate(other, None).ok());
            let key = &other.unwrap_or(version).key;
            let key = version.exportable.then_some(&**key);
            version.contents.pack(key, &version.chain)?
        };
        let mut shown = managed_item(call.base, name, version, false);
        shown["value"] = json!(value);
        return Ok(Answer::ok(shown));
    }
    let version = objects.secret(name, version)?;
    if !version.attributes.enabled {
        return Err(Refusal::Disabled(KIND, "get"));
    }
    let mut shown = item(call.base, name, version, false);
    shown["value"] = json!(version.value);
    Ok(Answer::ok(shown))
}

fn set(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let value = call.body["value"]
        .as_str()
        .ok_or_else(|| bad("Property value is missing"))?;
    let mut attributes = Attributes::new(service.now());
    attributes.update(&call.body["attributes"], service.now());
    let version = SecretVersion {
        id: new_id(),
        attributes,
        tags: tags(&call.body).unwrap_or_default(),
        value: value.to_owned(),
        content_type: call.body["contentType"].as_str().map(str::to_owned),
    };
    let mut objects = service.objects();
    if objects.certificates.contains_key(name) {
        return Err(Refusal::Managed(name.to_owned()));
    }
    if objects.deleted_secrets.contains_key(name) {
        return Err(Refusal::Deleted(KIND, name.to_owned()));
    }
    let mut shown = item(call.base, name, &version, false);
    shown["value"] = json!(value);
    objects
        .secrets
        .entry(name.to_owned())
        .or_default()
        .push(version);
    Ok(Answer::ok(shown))
}

fn update(
    service: &Service,
    call: &Call<'_>,
    name: &str,
    version: Option<&str>,
) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    if objects.certificates.contains_key(name) {
        return Err(Refusal::Managed(name.to_owned()));
    }
    let changed = objects.secret_mut(name, version)?;
    changed
        .attributes
        .update(&call.body["attributes"], service.now());
    if let Some(tags) = tags(&call.body) {
        changed.tags = tags;
    }
    if let Some(content_type) = call.body["contentType"].as_str() {
        changed.content_type = Some(content_type.to_owned());
    }
    Ok(Answer::ok(item(call.base, name, changed, false)))
}

fn delete(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    if objects.certificates.contains_key(name) {
        return Err(Refusal::Managed(name.to_owned()));
    }
    let versions = objects.secrets.remove(name);
    let versions = versions.ok_or_else(|| Refusal::NotFound(KIND, name.to_owned()))?;
    let newest = versions.last();
    let shown = newest.map_or(Value::Null, |newest| item(call.base, name, newest, false));
    let deleted = Deleted {
        object: versions,
        at: service.now(),
    };
    let shown = deleted.show(shown, &format!("{}/deletedsecrets/{name}", call.base));
    objects.deleted_secrets.insert(name.to_owned(), deleted);
    Ok(Answer::ok(shown))
}

/// A version without its value. In the list of all secrets the ids are without the version.
fn item(base: &str, name: &str, version: &SecretVersion, newest: bool) -> Value {
    let mut shown = json!({
        "id": address(base, name, &version.id, newest),
        "attributes": version.attributes.show(),
        "tags": version.tags,
    });
    if let Some(content_type) = &version.content_type {
        shown["contentType"] = json!(content_type);
    }
    shown
}

fn managed_item(base: &str, name: &str, version: &CertificateVersion, newest: bool) -> Value {
    json!({
        "id": address(base, name, &version.id, newest),
        "kid": format!("{base}/keys/{name}/{}", version.id),
        "contentType": version.contents.content_type(),
        "managed": true,
        "attributes": version.attributes.show(),
        "tags": version.tags,
    })
}

fn address(base: &str, name: &str, version: &str, newest: bool) -> String {
    if newest {
        format!("{base}/secrets/{name}")
    } else {
        format!("{base}/secrets/{name}/{version}")
    }
}
