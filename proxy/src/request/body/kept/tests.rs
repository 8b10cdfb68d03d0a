use http::HeaderValue;

use super::*;

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn trailers() -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("7"));
    Frame::trailers(trailers)
}

/// Kept as the body is sent for the first time.
fn kept(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Kept {
    let mut kept = Kept::default();
    kept.rewind(true);
    for frame in frames {
        assert!(kept.next().is_none());
        kept.add(&frame);
    }
    kept
}

/// The pieces that are there, as text.
fn rest(kept: &mut Kept) -> Vec<String> {
    std::iter::from_fn(|| kept.next())
        .map(|frame| match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
            Err(frame) => format!("{:?}", frame.into_trailers().unwrap()),
        })
        .collect()
}

#[test]
fn what_was_read_comes_again_in_order_as_often_as_it_is_sent() {
    let mut kept = kept([data("a"), data("b"), trailers()]);
    for _ in 0..3 {
        assert!(kept.is_empty() && kept.whole());
        kept.rewind(true);
        assert_eq!((kept.is_empty(), kept.bytes_left()), (false, 2));
        assert_eq!(rest(&mut kept), ["a", "b", "{\"x-checksum\": \"7\"}"]);
    }
}

#[test]
fn data_is_shared_not_copied() {
    let original = Bytes::from(vec![0; 1000]);
    let mut kept = kept([Frame::data(original.clone())]);
    kept.rewind(true);
    let again = kept.next().unwrap().into_data().unwrap();
    assert_eq!(again.as_ptr(), original.as_ptr());
}

#[test]
fn pieces_that_follow_a_repetition_are_kept_behind_it() {
    let mut kept = kept([data("a")]);
    kept.rewind(true);
    assert_eq!(rest(&mut kept), ["a"]);
    kept.add(&data("b"));
    kept.rewind(true);
    assert_eq!(rest(&mut kept), ["a", "b"]);
}

#[test]
fn once_settled_only_what_is_still_to_be_sent_stays() {
    let mut kept = kept([data("a"), data("b"), data("c")]);
    kept.rewind(true);
    assert!(kept.next().is_some());
    kept.forget();
    assert!(!kept.whole());
    assert_eq!(kept.bytes_left(), 2);
    assert_eq!(rest(&mut kept), ["b", "c"]);
    kept.add(&data("d"));
    assert!(kept.is_empty() && kept.pieces.is_empty());
}

#[test]
fn who_cannot_decline_it_gets_what_was_kept_for_the_last_time() {
    let mut kept = kept([data("a"), data("b")]);
    kept.rewind(false);
    assert!(kept.whole(), "nothing was taken yet");
    assert!(kept.next().is_some());
    assert!(!kept.whole());
    assert_eq!(rest(&mut kept), ["b"]);
}

#[test]
fn a_body_beyond_the_bound_is_forgotten_at_once() {
    let piece = || Frame::data(Bytes::from(vec![0; KEPT_BYTES_MAX / 2]));
    let mut full = kept([piece(), piece()]);
    assert!(full.whole());
    full.add(&data("more"));
    assert!(!full.whole());
    assert_eq!(full.pieces.capacity(), 0);
    assert!(full.is_empty());
}

#[test]
fn small_pieces_are_bounded_in_number() {
    let most = KEPT_BYTES_MAX / PIECE_BYTES_MIN;
    let mut full = kept((0..most).map(|_| data("")));
    assert!(full.whole());
    full.add(&trailers());
    assert!(!full.whole() && full.pieces.is_empty());
}
