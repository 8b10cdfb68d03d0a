//! `/certificates` and `/deletedcertificates`.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::header::{LOCATION, RETRY_AFTER};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answers::{Refusal, bad};
use super::contents;
use super::key::Key;
use super::object::{Attributes, CertificateObject, CertificateVersion, Deleted, Objects, tags};
use super::paging;
use super::pending::{Pending, SELF, Status, UNKNOWN};
use super::policy::Policy;
use super::service::{Call, Service};
use crate::testing::http::Answer;

const KIND: &str = "Certificate";

/// Answers what begins with `/certificates`.
pub(super) async fn answer(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let get = call.method == Method::GET;
    match call.rest {
        [] if get => list(service, call),
        [name] if get => show(service, call, name, None),
        [name] if call.method == Method::DELETE => delete(service, call, name),
        [name] if call.method == Method::PATCH => update(service, call, name, None),
        [name, "create"] if call.method == Method::POST => create(service, call, name).await,
        [name, "import"] if call.method == Method::POST => import(service, call, name),
        [name, "versions"] if get => versions(service, call, name),
        [name, "policy"] => policy(service, call, name),
        [name, "pending"] => pending(service, call, name),
        [name, "pending", "merge"] if call.method == Method::POST => merge(service, call, name),
        [name, version] if get => show(service, call, name, Some(version)),
        [name, version] if call.method == Method::PATCH => {
            update(service, call, name, Some(version))
        }
        [] | [_] | [_, _] | [_, _, "merge"] => Err(Refusal::NoSuchMethod),
        _ => Err(Refusal::NoSuchPath),
    }
}

/// Answers what begins with `/deletedcertificates`.
pub(super) fn answer_deleted(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let base = call.base;
    let shown = |name: &str, deleted: &Deleted<CertificateObject>| {
        let newest = deleted.object.versions.last();
        let shown = newest.map_or(Value::Null, |version| {
            bundle(base, name, &deleted.object, version)
        });
        deleted.show(shown, &format!("{base}/deletedcertificates/{name}"))
    };
    let missing = |name: &str| Refusal::DeletedNotFound(KIND, name.to_owned());
    match (call.method.as_str(), call.rest) {
        ("GET", []) => {
            let all = objects.deleted_certificates.iter().map(|(name, deleted)| {
                let newest = deleted.object.versions.last();
                let shown = newest.map_or(Value::Null, |newest| item(base, name, newest, true));
                deleted.show(shown, &format!("{base}/deletedcertificates/{name}"))
            });
            paging::page(call, all.collect())
        }
        ("GET", [name]) => {
            let deleted = objects
                .deleted_certificates
                .get(*name)
                .ok_or_else(|| missing(name))?;
            Ok(Answer::ok(shown(name, deleted)))
        }
        ("DELETE", [name]) => {
            objects
                .deleted_certificates
                .remove(*name)
                .ok_or_else(|| missing(name))?;
            Ok(Answer::new(StatusCode::NO_CONTENT, Value::Null))
        }
        ("POST", [name, "recover"]) => {
            let deleted = objects.deleted_certificates.remove(*name);
            let object = deleted.ok_or_else(|| missing(name))?.object;
            objects.certificates.insert((*name).to_owned(), object);
            drop(objects);
            show(service, call, name, None)
        }
        (_, [] | [_] | [_, "recover"]) => Err(Refusal::NoSuchMethod),
        _ => Err(Refusal::NoSuchPath),
    }
}

fn list(service: &Service, call: &Call<'_>) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let all = objects
        .certificates
        .iter()
        .filter_map(|(name, object)| Some(item(call.base, name, object.versions.last()?, true)));
    paging::page(call, all.collect())
}

fn versions(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let versions = objects
        .certificates
        .get(name)
        .map_or(&[][..], |object| &object.versions);
    let mut versions: Vec<_> = versions.iter().collect();
    // The service promises no order; this one makes sure that nobody relies on one.
    versions.sort_by(|a, b| a.id.cmp(&b.id));
    let items = versions
        .into_iter()
        .map(|version| item(call.base, name, version, false));
    paging::page(call, items.collect())
}

fn show(
    service: &Service,
    call: &Call<'_>,
    name: &str,
    version: Option<&str>,
) -> Result<Answer, Refusal> {
    let objects = service.objects();
    let shown = objects.certificate(name, version);
    let object = objects.certificates.get(name);
    match (shown, object) {
        (Ok(version), Some(object)) => Ok(Answer::ok(bundle(call.base, name, object, version))),
        // Nothing but a first version that is being made: it is there, without a certificate.
        (Err(_), Some(object)) if version.is_none() => {
            let base = format!("{}/certificates/{name}", call.base);
            let attributes = Attributes {
                enabled: false,
                ..Attributes::default()
            };
            let mut shown = json!({ "id": base, "attributes": attributes.show() });
            add_context(&mut shown, &base, object);
            Ok(Answer::ok(shown))
        }
        (shown, _) => Err(shown.err().unwrap_or(Refusal::NoSuchPath)),
    }
}

fn update(
    service: &Service,
    call: &Call<'_>,
    name: &str,
    version: Option<&str>,
) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let changed = objects.certificate_mut(name, version)?;
    changed
        .attributes
        .update(&call.body["attributes"], service.now());
    if let Some(tags) = tags(&call.body) {
        changed.tags = tags;
    }
    drop(objects);
    show(service, call, name, version)
}

fn delete(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let object = objects.certificates.remove(name);
    let object = object.ok_or_else(|| Refusal::NotFound(KIND, name.to_owned()))?;
    let newest = object.versions.last();
    let shown = newest.map_or_else(
        || json!({}),
        |version| bundle(call.base, name, &object, version),
    );
    let deleted = Deleted {
        object,
        at: service.now(),
    };
    let shown = deleted.show(shown, &format!("{}/deletedcertificates/{name}", call.base));
    objects
        .deleted_certificates
        .insert(name.to_owned(), deleted);
    Ok(Answer::ok(shown))
}

async fn create(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let (policy, key) = {
        let objects = service.objects();
        check_free(&objects, name)?;
        let object = objects.certificates.get(name);
        let before = object.and_then(|object| object.policy.as_ref());
        let policy = Policy::new(&call.body["policy"], before)?;
        if ![SELF, UNKNOWN].contains(&policy.issuer()) {
            return Err(bad(format!(
                "Property issuer has invalid value: {}",
                policy.issuer()
            )));
        }
        let newest = object.and_then(|object| object.versions.last());
        let reused = newest
            .filter(|_| policy.reuses_key())
            .map(|version| Arc::clone(&version.key));
        (policy, reused)
    };
    let key = if let Some(key) = key {
        key
    } else {
        let kind = policy.key_kind()?;
        let failed = |error: &dyn std::fmt::Display| bad(error.to_string());
        let made = tokio::task::spawn_blocking(move || Key::generate(kind)).await;
        Arc::new(
            made.map_err(|error| failed(&error))?
                .map_err(|error| failed(&error))?,
        )
    };
    let enabled = call.body["attributes"]["enabled"].as_bool().unwrap_or(true);
    let mut pending = Pending::new(policy, key, enabled, tags(&call.body).unwrap_or_default())?;
    let address = format!("{}/certificates/{name}", call.base);
    // What the service says at once is "in progress", whoever signs.
    let shown = pending.show(&address);
    let request_id = pending.request_id.clone();

    let mut objects = service.objects();
    // Of two at the same time, the other may have come first.
    check_free(&objects, name)?;
    let made = if pending.is_manual() {
        None
    } else {
        Some(pending.self_sign(service.now())?)
    };
    let object = objects.certificates.entry(name.to_owned()).or_default();
    object.policy = Some(pending.policy().clone());
    object.versions.extend(made);
    object.pending = Some(pending);
    let location = format!(
        "{address}/pending?api-version={}&request_id={request_id}",
        call.api_version
    );
    Ok(Answer::new(StatusCode::ACCEPTED, shown)
        .with(LOCATION, &location)
        .with(RETRY_AFTER, "0"))
}

fn import(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let value = call.body["value"]
        .as_str()
        .ok_or_else(|| bad("Property value is missing"))?;
    let password = call.body["pwd"].as_str().unwrap_or_default();
    let contents = Policy::new(&call.body["policy"], None)?.contents()?;
    let (key, chain) = contents::unpack(contents, value, password)?;
    let policy = Policy::of(&call.body["policy"], &key)?;
    let now = service.now();
    let mut objects = service.objects();
    check_free(&objects, name)?;
    let mut version = CertificateVersion::new(Arc::new(key), chain, now)?;
    version.contents = contents;
    version.exportable = policy.exportable();
    version.tags = tags(&call.body).unwrap_or_default();
    version.attributes.enabled = call.body["attributes"]["enabled"].as_bool().unwrap_or(true);
    let object = objects.certificates.entry(name.to_owned()).or_default();
    object.policy = Some(policy);
    object.versions.push(version);
    drop(objects);
    show(service, call, name, None)
}

fn policy(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let object = objects.certificates.get_mut(name);
    let object = object.ok_or_else(|| Refusal::NotFound(KIND, name.to_owned()))?;
    match call.method.as_str() {
        "GET" => {}
        "PATCH" => object.policy = Some(Policy::new(&call.body, object.policy.as_ref())?),
        _ => return Err(Refusal::NoSuchMethod),
    }
    let id = format!("{}/certificates/{name}/policy", call.base);
    let policy = object.policy.as_ref();
    Ok(Answer::ok(
        policy.map_or(Value::Null, |policy| policy.show(&id)),
    ))
}

fn pending(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let mut objects = service.objects();
    let missing = || Refusal::PendingNotFound(name.to_owned());
    let object = objects.certificates.get_mut(name).ok_or_else(missing)?;
    let pending = object.pending.as_mut().ok_or_else(missing)?;
    // "If request_id is specified in the query, it acts like a filter."
    if call
        .query("request_id")
        .is_some_and(|id| id != pending.request_id)
    {
        return Err(missing());
    }
    let address = format!("{}/certificates/{name}", call.base);
    match call.method.as_str() {
        "GET" => {
            pending.settle();
            Ok(Answer::ok(pending.show(&address)).with(RETRY_AFTER, "0"))
        }
        "PATCH" => {
            if call.body["cancellation_requested"].as_bool() == Some(true) {
                pending.cancel()?;
            }
            Ok(Answer::ok(pending.show(&address)))
        }
        "DELETE" => {
            let shown = pending.show(&address);
            object.pending = None;
            if object.versions.is_empty() {
                objects.certificates.remove(name);
            }
            Ok(Answer::ok(shown))
        }
        _ => Err(Refusal::NoSuchMethod),
    }
}

fn merge(service: &Service, call: &Call<'_>, name: &str) -> Result<Answer, Refusal> {
    let invalid = || bad("Property x5c has invalid value");
    let chain = call.body["x5c"].as_array().ok_or_else(invalid)?;
    let decoded = chain.iter().map(|certificate| {
        let certificate = certificate.as_str().ok_or_else(invalid)?;
        BASE64_STANDARD.decode(certificate).map_err(|_| invalid())
    });
    let chain = decoded.collect::<Result<Vec<_>, _>>()?;
    let missing = || Refusal::PendingNotFound(name.to_owned());
    let mut objects = service.objects();
    let object = objects.certificates.get_mut(name).ok_or_else(missing)?;
    let pending = object.pending.as_mut().ok_or_else(missing)?;
    let mut version = pending.merge(chain, service.now())?;
    version
        .attributes
        .update(&call.body["attributes"], service.now());
    object.versions.push(version);
    let version = object.versions.last().ok_or_else(missing)?;
    let shown = bundle(call.base, name, object, version);
    let location = format!(
        "{}/certificates/{name}?api-version={}",
        call.base, call.api_version
    );
    Ok(Answer::new(StatusCode::CREATED, shown).with(LOCATION, &location))
}

/// Whether a new version of this name may be made.
fn check_free(objects: &Objects, name: &str) -> Result<(), Refusal> {
    if objects.deleted_certificates.contains_key(name) {
        return Err(Refusal::Deleted(KIND, name.to_owned()));
    }
    let object = objects.certificates.get(name);
    let pending = object.and_then(|object| object.pending.as_ref());
    match pending {
        Some(pending) if pending.status == Status::InProgress => Err(Refusal::Pending),
        _ => Ok(()),
    }
}

/// A version, whole.
fn bundle(
    base: &str,
    name: &str,
    object: &CertificateObject,
    version: &CertificateVersion,
) -> Value {
    let id = &version.id;
    let mut shown = item(base, name, version, false);
    shown["kid"] = json!(format!("{base}/keys/{name}/{id}"));
    shown["sid"] = json!(format!("{base}/secrets/{name}/{id}"));
    shown["cer"] =
        json!(BASE64_STANDARD.encode(version.chain.first().map_or(&[][..], |leaf| leaf)));
    shown["contentType"] = json!(version.contents.content_type());
    add_context(&mut shown, &format!("{base}/certificates/{name}"), object);
    shown
}

fn add_context(shown: &mut Value, address: &str, object: &CertificateObject) {
    if let Some(policy) = &object.policy {
        shown["policy"] = policy.show(&format!("{address}/policy"));
    }
    if object.pending.is_some() {
        shown["pending"] = json!({ "id": format!("{address}/pending") });
    }
}

/// A version in a list; in the list of all certificates their ids are without it.
fn item(base: &str, name: &str, version: &CertificateVersion, newest: bool) -> Value {
    let leaf = version.chain.first().map_or(&[][..], |leaf| leaf);
    let thumbprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, leaf);
    let id = if newest {
        format!("{base}/certificates/{name}")
    } else {
        format!("{base}/certificates/{name}/{}", version.id)
    };
    json!({
        "id": id,
        "x5t": BASE64_URL_SAFE_NO_PAD.encode(thumbprint),
        "attributes": version.attributes.show(),
        "tags": version.tags,
    })
}
