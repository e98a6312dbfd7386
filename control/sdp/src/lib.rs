//! A lossless SDP line editor (RFC 8866).
//!
//! [`Sdp::parse`] keeps the body as it came and notes where its lines are; the typed
//! values a relay needs (addresses, ports, direction, codecs) are read beside them.
//! [`Sdp::rewrite`] replaces what [`Rewrite`] names and copies every other byte:
//! CRLF or LF, a missing last CRLF, unknown lines, odd order, non-UTF-8 text.
//! [`CodecFilter`] says which formats of a section may pass.
//!
//! A line ends at CRLF, LF or a lone CR. A reader at the other end may know any of
//! them, so an address hidden behind a lone CR must be seen here too.
//!
//! Limits: a body of [`MAX_BODY`] bytes, [`MAX_MEDIA`] media sections. Host names in
//! `c=` are refused, not resolved: a resolver would do I/O on a stranger's behalf.
//!
//! ```
//! use penstock_sdp::{MediaRewrite, OriginEdit, Rewrite, Sdp};
//!
//! let body = b"v=0\r\no=- 1 1 IN IP4 10.0.0.7\r\ns=-\r\nc=IN IP4 10.0.0.7\r\nt=0 0\r\n\
//!              m=audio 4000 RTP/AVP 8\r\n";
//! let sdp = Sdp::parse(body)?;
//! assert_eq!(sdp.media()[0].codecs[0].name, "PCMA");
//! let relay = "192.0.2.1".parse().unwrap();
//! let out = sdp.rewrite(&Rewrite {
//!     origin: OriginEdit { address: Some(relay), ..OriginEdit::default() },
//!     media: vec![MediaRewrite::new(30_000, relay)],
//!     ..Rewrite::default()
//! })?;
//! assert_eq!(
//!     out,
//!     b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n\
//!       m=audio 30000 RTP/AVP 8\r\nc=IN IP4 192.0.2.1\r\n"
//! );
//! # Ok::<(), penstock_sdp::SdpError>(())
//! ```

mod address;
mod codec;
mod error;
mod filter;
mod kind;
mod line;
mod media;
mod rewrite;
mod session;

pub use address::{ip_text, socket_text};
pub use codec::Codec;
pub use error::SdpError;
pub use filter::CodecFilter;
pub use media::{Direction, Extmap, Keys, Media, MediaKind, Protocol, Rtcp};
pub use rewrite::{
    AttributeEdits, Candidate, ExtmapEdit, GroupEdit, IceEdit, IceLines, MediaRewrite, MidEdit,
    OriginEdit, Rewrite, RtcpLine, ZeroAddress,
};
pub use session::{Origin, Sdp, with_sections};

/// Largest body accepted, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Largest number of m= lines accepted.
pub const MAX_MEDIA: usize = 64;
