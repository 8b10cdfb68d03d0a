//! The switches of a vault for other processes; the table is in the documentation of [`super`].

use std::sync::Arc;

use http::{Method, StatusCode};
use postern_certs::dev_ca::DevCa;
use serde_json::{Value, json};

use super::NewVersion;
use super::seed::SeedError;
use super::service::Service;
use crate::testing::http::{Answer, Call, Handler};

/// The handler of `/stand-in/…`.
#[derive(Debug)]
pub(super) struct Switches(pub(super) Arc<Service>);

impl Handler for Switches {
    async fn answer(&self, call: Call) -> Answer {
        self.switch(&call)
            .unwrap_or_else(|text| Answer::new(StatusCode::BAD_REQUEST, json!({ "error": text })))
    }
}

impl Switches {
    fn switch(&self, call: &Call) -> Result<Answer, String> {
        let Self(vault) = self;
        let body = call.json();
        let segments = call.segments();
        match (&call.method, segments.as_slice()) {
            (&Method::GET, ["stand-in", "faults"]) => Ok(Answer::ok(json!(*vault.faults()))),
            (&Method::PUT, ["stand-in", "faults"]) => {
                vault.set_faults(serde_json::from_value(body).map_err(|error| error.to_string())?);
                Ok(Answer::ok(Value::Null))
            }
            (&Method::GET, ["stand-in", "requests"]) => Ok(Answer::ok(vault.log.summary())),
            (&Method::DELETE, ["stand-in", "requests"]) => {
                vault.log.clear();
                Ok(Answer::ok(Value::Null))
            }
            (&Method::POST, ["stand-in", "certificates", name]) => {
                let version: NewVersion =
                    serde_json::from_value(body).map_err(|error| error.to_string())?;
                added(vault.add(name, &version))
            }
            (&Method::POST, ["stand-in", "authorities", name]) => {
                let common_name = body["common_name"].as_str().unwrap_or(name);
                let ca = DevCa::new(common_name).map_err(|error| error.to_string())?;
                added(vault.add_ca(name, ca))
            }
            (&Method::PUT, ["stand-in", "certificates", name, version]) => {
                let version = Some(*version).filter(|version| *version != "newest");
                let enabled = body["enabled"]
                    .as_bool()
                    .ok_or("enabled is true or false")?;
                let set = vault.set_enabled(name, version, enabled);
                set.map_err(|error| error.to_string())?;
                Ok(Answer::ok(Value::Null))
            }
            (&Method::PUT, ["stand-in", "clock"]) => {
                vault.set_clock(
                    body["ahead"]
                        .as_i64()
                        .ok_or("ahead is a number of seconds")?,
                );
                Ok(Answer::ok(Value::Null))
            }
            _ => Err("there is no such switch".to_owned()),
        }
    }
}

fn added(version: Result<String, SeedError>) -> Result<Answer, String> {
    let version = version.map_err(|error| error.to_string())?;
    Ok(Answer::ok(json!({ "version": version })))
}
