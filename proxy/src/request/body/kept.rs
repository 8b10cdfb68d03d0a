//! What was read of a request's body, kept until it is known that it need not be sent again.
//!
//! Invariant: what [`Kept::next`] gives and what is added after it is the body in order, each piece once, from
//! its first byte if it is [`Kept::whole`].

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// The pieces of a body that were read, and how far the one who sends it now has got in them.
#[derive(Default)]
pub struct Kept {
    pieces: VecDeque<Piece>,
    /// Pieces that the one who sends it now has.
    taken: usize,
    /// What the pieces count for.
    cost: usize,
    /// Whether pieces are kept once they are taken.
    keeping: bool,
    /// Whether a piece is gone.
    lost: bool,
}

/// The data is shared with who sends it, never copied.
enum Piece {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl Kept {
    /// From the first piece again; pieces are kept on if `keeping`.
    pub fn rewind(&mut self, keeping: bool) {
        self.taken = 0;
        self.keeping = keeping && !self.lost;
    }

    /// Whether the body can be sent from its first byte.
    pub fn whole(&self) -> bool {
        !self.lost
    }

    /// The next piece that was read before.
    pub fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.keeping {
            let frame = self.pieces.get(self.taken)?.frame();
            self.taken += 1;
            return Some(frame);
        }
        let frame = self.pieces.pop_front()?.into_frame();
        self.lost = true;
        Some(frame)
    }

    /// Keeps a piece that was read just now, if it is to be kept and has room.
    pub fn add(&mut self, frame: &Frame<Bytes>) {
        if !self.keeping {
            self.lost = true;
            return;
        }
        let Some(piece) = Piece::of(frame) else {
            return self.forget();
        };
        self.cost += piece.cost();
        if self.cost > KEPT_BYTES_MAX {
            return self.forget();
        }
        self.pieces.push_back(piece);
        self.taken += 1;
    }

    /// It will not be sent again: only pieces that are still to be sent stay.
    pub fn forget(&mut self) {
        self.keeping = false;
        self.lost = true;
        self.pieces.drain(..self.taken);
        self.taken = 0;
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Whether all pieces that were read before are taken.
    pub fn is_empty(&self) -> bool {
        self.taken == self.pieces.len()
    }

    /// Bytes of data among the pieces that are not taken yet.
    pub fn bytes_left(&self) -> u64 {
        let left = self.pieces.range(self.taken..).map(Piece::bytes);
        left.sum::<usize>() as u64
    }
}

impl Piece {
    /// `None` for a frame of a kind that HTTP does not have.
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref().cloned().map(Self::Data);
        data.or_else(|| {
            let trailers = frame.trailers_ref()?.clone();
            Some(Self::Trailers(Box::new(trailers)))
        })
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(*trailers),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    fn cost(&self) -> usize {
        let bytes = match self {
            Self::Data(data) => data.len(),
            Self::Trailers(trailers) => trailers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum(),
        };
        bytes.max(PIECE_BYTES_MIN)
    }
}

// Limit: what is kept of one request until its answer's head: a FHIR resource or a query, not an instance. The 100
// requests that share a connection to the ingress keep 6.4 MiB at most.
const KEPT_BYTES_MAX: usize = 64 * 1024;
// Limit: what a piece counts for, however small: it holds on to the buffer that it was read into. So no more than 16
// are kept.
const PIECE_BYTES_MIN: usize = 4 * 1024;

#[cfg(test)]
mod tests;
