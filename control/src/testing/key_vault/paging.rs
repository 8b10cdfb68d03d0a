//! Lists, a page at a time.

use serde_json::{Value, json};

use super::answers::{Refusal, bad};
use super::service::Call;
use crate::testing::http::Answer;

// Limit: the service's own, for the size of a page.
const PAGE_MAX: usize = 25;

/// The page of `all` that the query asks for, with the address of the next one.
pub(super) fn page(call: &Call<'_>, all: Vec<Value>) -> Result<Answer, Refusal> {
    let number = |name: &str| match call.query(name) {
        None => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad(format!("Property {name} has invalid value: {text}"))),
        },
    };
    let size = number("maxresults")?.unwrap_or(PAGE_MAX);
    if size == 0 || size > PAGE_MAX {
        return Err(bad(format!("maxresults is 1 to {PAGE_MAX}")));
    }
    let start = number("$skiptoken")?.unwrap_or(0);
    let end = start.saturating_add(size);
    let next = (end < all.len()).then(|| {
        format!(
            "{}{}?api-version={}&$skiptoken={end}&maxresults={size}",
            call.base, call.path, call.api_version
        )
    });
    let value: Vec<_> = all.into_iter().skip(start).take(size).collect();
    Ok(Answer::ok(json!({ "value": value, "nextLink": next })))
}
