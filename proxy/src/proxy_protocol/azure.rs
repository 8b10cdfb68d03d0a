//! The link id that an Azure Private Link Service puts into the header.
//!
//! Source: "Getting connection Information using TCP Proxy v2", Azure Private Link Service documentation:
//! type 0xEE (`PP2_TYPE_AZURE`), length 5, first byte 0x01 (`PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID`), then
//! LINKID as a little-endian `u32`. It is the one number in the header that is not big endian.

use postern_api::LinkId;

use super::tlv::Tlv;

/// The link id of this vector, if it is a well-formed one; anything else is another vector, to be skipped.
pub(super) fn link_id(vector: Tlv<'_>) -> Option<LinkId> {
    match (vector.kind, vector.value) {
        (TYPE, &[SUBTYPE_LINK_ID, a, b, c, d]) => {
            Some(LinkId::new(u32::from_le_bytes([a, b, c, d])))
        }
        _ => None,
    }
}

/// The value of the vector that carries `link_id`.
pub(super) fn value(link_id: LinkId) -> [u8; 5] {
    let [a, b, c, d] = link_id.get().to_le_bytes();
    [SUBTYPE_LINK_ID, a, b, c, d]
}

/// `PP2_TYPE_AZURE`, in the range that the specification leaves to applications.
pub(super) const TYPE: u8 = 0xee;

/// `PP2_SUBTYPE_AZURE_PRIVATEENDPOINT_LINKID`.
const SUBTYPE_LINK_ID: u8 = 0x01;
