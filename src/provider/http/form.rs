//! A form with one file, as upstreams take uploads: `multipart/form-data` of RFC 7578.
//!
//! Made anew from its parts for every request, since a request may be sent again.

use bytes::Bytes;
use reqwest::multipart::{self, Part};
use reqwest::{Client, Request, RequestBuilder};

/// Fields of text, then a file in the field `file`.
#[derive(Debug, Clone)]
pub struct Form {
    fields: Vec<(&'static str, String)>,
    name: String,
    mime_type: String,
    bytes: Bytes,
}

impl Form {
    /// A file of this name and media type. What would end the line that the name stands on is taken out of it.
    pub fn file(name: impl Into<String>, mime_type: impl Into<String>, bytes: impl Into<Bytes>) -> Form {
        Form {
            fields: Vec::new(),
            name: name.into().replace(char::is_control, "_"),
            mime_type: mime_type.into(),
            bytes: bytes.into(),
        }
    }

    /// The same with one more field before the file, such as `purpose`.
    pub fn field(mut self, name: &'static str, text: impl Into<String>) -> Form {
        self.fields.push((name, text.into()));
        self
    }

    /// How many bytes the file has.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The request with this form as its body.
    pub(super) fn put_into(&self, request: Request, client: &Client) -> reqwest::Result<Request> {
        let length = self.bytes.len() as u64;
        let file = Part::stream_with_length(self.bytes.clone(), length)
            .file_name(self.name.clone())
            .mime_str(&self.mime_type)?;
        let fields = self.fields.iter();
        let form = fields.fold(multipart::Form::new(), |form, (name, text)| {
            form.text(*name, text.clone())
        });
        RequestBuilder::from_parts(client.clone(), request)
            .multipart(form.part("file", file))
            .build()
    }
}
