//! What a request brings: JSON, or a form with one file, as upstreams take uploads (`multipart/form-data` of RFC 7578).
//!
//! A form is made anew from its parts for every request, since a request may be sent again.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::multipart::{self, Part};
use reqwest::{Client, Request, RequestBuilder};

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    None,
    Json(Bytes),
    Form(Form),
}

impl Body {
    /// The request with this as its body.
    pub fn put_into(&self, mut request: Request, client: &Client) -> reqwest::Result<Request> {
        match self {
            Body::None => Ok(request),
            Body::Json(json) => {
                let kind = HeaderValue::from_static("application/json");
                request.headers_mut().insert(CONTENT_TYPE, kind);
                *request.body_mut() = Some(json.clone().into());
                Ok(request)
            }
            Body::Form(form) => form.put_into(request, client),
        }
    }

    /// How long an answer may take where the upstream may be silent for this long: a large body has to get there first,
    /// and is given a second for every 64 KiB.
    pub fn patience(&self, idle: Duration) -> Duration {
        let size = match self {
            Body::None => 0,
            Body::Json(body) => body.len(),
            Body::Form(form) => form.bytes.len(),
        };
        idle + Duration::from_secs((size >> 16) as u64)
    }
}

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

    fn put_into(&self, request: Request, client: &Client) -> reqwest::Result<Request> {
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
