//! Every method, type and code of the wire, once.
//!
//! One stem names all of a method: `assistant/send` has [`SendParams`] and [`SendResult`]. The tables of `protocol.md`
//! and the OpenRPC document are made from [`METHODS`]. Field names are camelCase; a null optional member is absent.
//! Nothing here does anything: these are shapes.

mod assistant;
mod check;
mod content;
mod event;
mod lenient;
mod lifecycle;
mod methods;
mod openrpc;
mod thread;
mod tool;

pub use assistant::*;
pub use check::*;
pub use content::*;
pub use event::*;
pub use lifecycle::*;
pub use methods::*;
pub use openrpc::openrpc;
pub use thread::*;
pub use tool::*;

/// The version of the wire that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
