//! What the back end answers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, CONTENT_TYPE, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::State;
use super::record::{Counted, Records};
use crate::stack::nginx::pattern;

type Answer = Response<BoxBody<Bytes, BodyError>>;
type BodyError = Box<dyn std::error::Error + Send + Sync>;

// Limit: frames between the request's body and the answer's; a slow reader stops the sender.
const CHANNEL_FRAMES: usize = 4;

// Limit: of a request's body, this much is shown in the answer; the rest is only counted.
const SHOWN_BYTES_MAX: usize = 65_536;

pub(super) async fn answer(
    mut request: Request<Incoming>,
    state: State,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let mut segments = path.trim_start_matches('/').split('/');
    let route = segments.next().unwrap_or_default();
    let mut number = || {
        segments
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0_u64)
    };
    if route == "_seen" {
        return Ok(seen(request.method(), &state.records));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let request = state.records.begin(request);
    Ok(match route {
        "status" => status(number()),
        "pour" => pour(&request, number()),
        "gate" => {
            // The sender is in `state`: it lives as long as we wait.
            let _ = state.gate.subscribe().wait_for(|open| *open).await;
            sink(request).await
        }
        "generate" => generate(number()),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            text("slow")
        }
        "drip" => drip(number(), Duration::from_millis(number())),
        "grpc" if path.ends_with("/error") => grpc_error(),
        "stream" | "grpc" => stream(request),
        "trailers" => trailers(),
        "sink" => sink(request).await,
        "break" => broken(),
        "redirect" => redirect(),
        "websocket" => websocket(&request, upgrade),
        "upgrade" => raw_upgrade(&request, upgrade),
        _ => echo(request).await,
    })
}

fn seen(method: &Method, records: &Records) -> Answer {
    if method == Method::DELETE {
        records.clear();
        return status(204);
    }
    json_answer(&json!(records.all()))
}

fn status(number: u64) -> Answer {
    let mut answer = Response::new(boxed(Empty::new()));
    let status = u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok());
    *answer.status_mut() = status.unwrap_or(StatusCode::BAD_REQUEST);
    answer
}

fn redirect() -> Answer {
    let mut answer = status(302);
    let location = HeaderValue::from_static("http://elsewhere.example/a%20b?c=d#e");
    answer.headers_mut().insert(LOCATION, location);
    answer
}

fn generate(length: u64) -> Answer {
    // Limit: one answer is held in memory; larger ones are the ingress's static files.
    let length = usize::try_from(length.min(64 * 1024 * 1024)).unwrap_or(0);
    Response::new(boxed(Full::new(pattern(length).into())))
}

fn pour(request: &Request<Counted>, length: u64) -> Answer {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(CHANNEL_FRAMES);
    let teller = request.body().teller();
    tokio::spawn(async move {
        // A whole number of the pattern's periods, so that each piece continues the one before.
        let piece = Bytes::from(pattern(251 * 64));
        let mut left = length;
        while left > 0 {
            let next = piece
                .slice(..usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len())));
            let bytes = next.len();
            if sender.send_data(next).await.is_err() {
                return teller.abandoned();
            }
            teller.poured(bytes);
            left -= bytes as u64;
        }
    });
    Response::new(body.boxed())
}

fn grpc_error() -> Answer {
    let mut answer = Response::new(boxed(Empty::new()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("5"));
    headers.insert("grpc-message", HeaderValue::from_static("no such study"));
    answer
}

fn drip(count: u64, pause: Duration) -> Answer {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(CHANNEL_FRAMES);
    tokio::spawn(async move {
        for index in 0..count {
            if sender
                .send_data(format!("drip {index}\n").into())
                .await
                .is_err()
            {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    Response::new(body.boxed())
}

fn stream(request: Request<Counted>) -> Answer {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(CHANNEL_FRAMES);
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    tokio::spawn(async move {
        let mut request = request.into_body();
        while let Some(frame) = request.frame().await {
            let sent = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => sender.send_data(data).await.is_ok(),
                    Err(_) => true,
                },
                Err(error) => return sender.abort(error.into()),
            };
            if !sent {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-bytes", HeaderValue::from(request.seen().body_bytes));
        let _ = sender.send_trailers(trailers).await;
    });
    let mut answer = Response::new(body.boxed());
    announce_trailers(&mut answer, "grpc-status, x-bytes");
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    answer
}

fn trailers() -> Answer {
    // Of unknown length: an answer with a length has no room for trailers in HTTP/1.1.
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(CHANNEL_FRAMES);
    tokio::spawn(async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", HeaderValue::from_static("yes"));
        if sender.send_data(Bytes::from_static(b"hello")).await.is_ok() {
            let _ = sender.send_trailers(trailers).await;
        }
    });
    let mut answer = Response::new(body.boxed());
    announce_trailers(&mut answer, "x-trailer");
    answer
}

/// Over HTTP/1.1 only announced trailers are sent (RFC 9110 section 6.6.2).
fn announce_trailers(answer: &mut Answer, names: &'static str) {
    answer
        .headers_mut()
        .insert(http::header::TRAILER, HeaderValue::from_static(names));
}

async fn sink(request: Request<Counted>) -> Answer {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let seen = body.seen();
    json_answer(
        &json!({ "bytes": seen.body_bytes, "complete": seen.complete, "pattern": seen.is_pattern }),
    )
}

fn broken() -> Answer {
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(CHANNEL_FRAMES);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from_static(b"0123456789")).await;
        sender.abort("broken off on purpose".into());
    });
    let mut answer = Response::new(body.boxed());
    answer
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, HeaderValue::from(1000));
    answer
}

fn websocket(request: &Request<Counted>, upgrade: OnUpgrade) -> Answer {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return status(400);
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let stream = TokioIo::new(stream);
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text == "close") {
                let _ = socket.close(None).await;
                continue;
            }
            let echoed = message.is_text() || message.is_binary();
            if echoed && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut answer = switching("websocket");
    // The accept key is base64, hence always a valid header value.
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

fn raw_upgrade(request: &Request<Counted>, upgrade: OnUpgrade) -> Answer {
    let Some(protocol) = request.headers().get(UPGRADE).cloned() else {
        return status(426);
    };
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    });
    let mut answer = switching("raw");
    answer.headers_mut().insert(UPGRADE, protocol);
    answer
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = status(101);
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

async fn echo(request: Request<Counted>) -> Answer {
    let mut body = request.into_body();
    let mut shown = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = SHOWN_BYTES_MAX.saturating_sub(shown.len());
            shown.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    let mut answer = json!(body.seen());
    answer["body"] = String::from_utf8_lossy(&shown).into();
    let mut answer = json_answer(&answer);
    let name = HeaderName::from_static("x-backend");
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static("echo"));
    answer
}

fn text(text: &'static str) -> Answer {
    Response::new(boxed(Full::new(Bytes::from_static(text.as_bytes()))))
}

fn json_answer(value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(boxed(Full::new(value.to_string().into())));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn boxed<B>(body: B) -> BoxBody<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    body.map_err(|never| match never {}).boxed()
}
