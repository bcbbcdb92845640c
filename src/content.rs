//! What a user says, made ready before there is a run: paths are read, and every part is checked.
//!
//! Knows files and media types; knows no provider and no thread. What comes out of [`read`] needs nothing of this
//! machine any more: no part has a path, every `data` is standard base 64 with its media type, and every resource has
//! its text. So a thread stays whole when a file is changed or gone.

mod media;
mod path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use reqwest::Url;

use crate::error::{Error, Kind};
use crate::protocol::{File, Image, Part};

/// The largest image, in bytes.
pub const IMAGE_MAX: u64 = 20 << 20;

/// The largest file or resource, in bytes.
pub const FILE_MAX: u64 = 32 << 20;

/// The most that the images, files and resources of one message may have together, in bytes.
pub const MESSAGE_MAX: u64 = 64 << 20;

/// The longest name of a file, in bytes.
const NAME_MAX: usize = 255;

/// The longest URL of an image, in bytes.
const URL_MAX: usize = 8 << 10;

/// The content with its paths read. Files are read on a thread of their own, since a slow disk must hold up nobody else.
pub async fn read(content: Vec<Part>) -> Result<Vec<Part>, Error> {
    if content.iter().all(is_ready) {
        return Ok(content);
    }
    let reading = tokio::task::spawn_blocking(move || read_parts(content)).await;
    reading.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "reading `content` panicked")))
}

fn is_ready(part: &Part) -> bool {
    match part {
        Part::Text { .. } | Part::Refusal { .. } => true,
        Part::Resource { text, .. } => text.is_some(),
        Part::Image(_) | Part::File(_) => false,
    }
}

fn read_parts(content: Vec<Part>) -> Result<Vec<Part>, Error> {
    let mut room = MESSAGE_MAX;
    let parts = content.into_iter().enumerate().map(|(index, part)| {
        let mut reader = Reader {
            place: format!("content[{index}]"),
            room: &mut room,
        };
        match part {
            Part::Image(image) => reader.image(image).map(Part::Image),
            Part::File(file) => reader.file(file).map(Part::File),
            Part::Resource {
                uri,
                text: None,
                mime_type,
                selection,
            } => Ok(Part::Resource {
                text: Some(reader.resource(&uri)?),
                uri,
                mime_type,
                selection,
            }),
            ready => Ok(ready),
        }
    });
    parts.collect()
}

/// Reads one part.
struct Reader<'a> {
    /// The part, as errors name it: `content[1]`.
    place: String,
    /// What the message may still have, in bytes.
    room: &'a mut u64,
}

impl Reader<'_> {
    fn image(&mut self, image: Image) -> Result<Image, Error> {
        let sources = [
            ("path", &image.path),
            ("url", &image.url),
            ("data", &image.data),
            ("fileId", &image.file_id),
        ];
        self.exactly_one(&sources)?;
        let (member, bytes) = if let Some(path) = &image.path {
            ("path", self.bytes_at("path", path, IMAGE_MAX)?.1)
        } else if let Some(data) = &image.data {
            ("data", self.decode("data", data, IMAGE_MAX)?)
        } else if let Some(data) = image.url.as_deref().and_then(media::data_of_url) {
            ("url", self.decode("url", data, IMAGE_MAX)?)
        } else {
            if let Some(url) = &image.url {
                self.check_url(url)?;
            }
            return Ok(image);
        };
        let mime_type = media::image_type(&bytes).map_err(|found| {
            self.wrong(
                member,
                format!("to be an image that models take (PNG, JPEG, GIF or WebP), found {found}"),
            )
        })?;
        Ok(Image {
            data: Some(STANDARD.encode(&bytes)),
            mime_type: Some(mime_type.to_owned()),
            detail: image.detail,
            ..Image::default()
        })
    }

    fn file(&mut self, file: File) -> Result<File, Error> {
        let sources = [("path", &file.path), ("data", &file.data), ("fileId", &file.file_id)];
        self.exactly_one(&sources)?;
        if let Some(mime_type) = &file.mime_type
            && !media::is_media_type(mime_type)
        {
            return Err(self.wrong("mimeType", "to be a media type such as `text/csv`".to_owned()));
        }
        let is_name = |name: &String| name.len() <= NAME_MAX && !name.contains(char::is_control);
        if !file.name.as_ref().is_none_or(is_name) {
            let expected = format!("to be a name of at most {NAME_MAX} bytes on one line");
            return Err(self.wrong("name", expected));
        }
        let (bytes, name) = if let Some(path) = &file.path {
            let (name, bytes) = self.bytes_at("path", path, FILE_MAX)?;
            (bytes, file.name.or(name))
        } else if let Some(data) = &file.data {
            (self.decode("data", data, FILE_MAX)?, file.name)
        } else {
            return Ok(file);
        };
        let mime_type = file.mime_type;
        Ok(File {
            data: Some(STANDARD.encode(&bytes)),
            mime_type: Some(mime_type.unwrap_or_else(|| media::file_type(&bytes, name.as_deref()))),
            name,
            ..File::default()
        })
    }

    /// The text of the file that a URI names.
    fn resource(&mut self, uri: &str) -> Result<String, Error> {
        if !path::is_file_uri(uri) {
            return Err(Error::invalid_params(format!(
                "expected `{}.text`, which only a `file:` URI may leave out",
                self.place
            )));
        }
        let (_, bytes) = self.bytes_at("uri", uri, FILE_MAX)?;
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.ok_or_else(|| {
            let expected = "to name a text in UTF-8";
            self.wrong("uri", expected.to_owned())
                .with_hint("send it as a part of type `file`")
        })
    }

    /// The name and the bytes of the file at a path or `file:` URI.
    fn bytes_at(&mut self, member: &str, path: &str, max: u64) -> Result<(Option<String>, Vec<u8>), Error> {
        let Some(located) = path::locate(path) else {
            let expected = "to be an absolute path or a `file:` URI of this machine";
            return Err(self
                .wrong(member, format!("{expected}, found `{}`", path::short(path)))
                .with_hint("assistd may run in any folder, so a relative path means nothing to it"));
        };
        let bytes = path::read(&located, max).map_err(|problem| match problem {
            path::Problem::TooLarge(size) => self.too_large(member, size, max),
            path::Problem::Unreadable(why) => {
                let place = &self.place;
                let path = located.display();
                Error::invalid_params(format!("failed to read `{path}`, which is `{place}.{member}`: {why}"))
            }
        })?;
        self.take_room(bytes.len())?;
        let name = located.file_name();
        let name = name.map(|name| name.to_string_lossy().replace(char::is_control, "_"));
        Ok((name, bytes))
    }

    fn decode(&mut self, member: &str, data: &str, max: u64) -> Result<Vec<u8>, Error> {
        let size = data.len() as u64 / 4 * 3;
        if size > max {
            return Err(self.too_large(member, size, max));
        }
        // Many programs break base 64 into lines.
        let one_line: String;
        let data = if data.contains(['\n', '\r']) {
            one_line = data.split(['\n', '\r']).collect();
            &one_line
        } else {
            data
        };
        let engine = if data.contains(['-', '_']) {
            URL_SAFE_PAD_INDIFFERENT
        } else {
            STANDARD_PAD_INDIFFERENT
        };
        let bytes = engine
            .decode(data)
            .map_err(|_| self.wrong(member, "to be base 64".to_owned()))?;
        self.take_room(bytes.len())?;
        Ok(bytes)
    }

    fn take_room(&mut self, size: usize) -> Result<(), Error> {
        match self.room.checked_sub(size as u64) {
            Some(room) => {
                *self.room = room;
                Ok(())
            }
            None => {
                let message = format!(
                    "expected the images, files and resources of one message to have at most {} together",
                    mebibytes(MESSAGE_MAX)
                );
                let size = MESSAGE_MAX - *self.room + size as u64;
                Err(Error::new(Kind::InputTooLarge, message).with_size(size))
            }
        }
    }

    fn exactly_one(&self, sources: &[(&str, &Option<String>)]) -> Result<(), Error> {
        let quoted = |names: Vec<&str>, last: &str| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            match names.split_last() {
                Some((only, [])) => only.clone(),
                Some((end, names)) => format!("{} {last} {end}", names.join(", ")),
                None => "none".to_owned(),
            }
        };
        let found: Vec<_> = sources
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        match found[..] {
            // An empty file is a file.
            [(name, "")] if name != "data" => Err(self.wrong(name, "not to be empty".to_owned())),
            [_] => Ok(()),
            _ => Err(Error::invalid_params(format!(
                "expected exactly one of {} in `{}`, found {}",
                quoted(sources.iter().map(|(name, _)| *name).collect(), "or"),
                self.place,
                quoted(found.iter().map(|(name, _)| *name).collect(), "and")
            ))),
        }
    }

    fn check_url(&self, url: &str) -> Result<(), Error> {
        let scheme = Url::parse(url).ok().map(|url| url.scheme().to_owned());
        match scheme.as_deref() {
            Some("http" | "https") if url.len() > URL_MAX => {
                Err(self.wrong("url", format!("to have at most {URL_MAX} bytes")))
            }
            Some("http" | "https") => Ok(()),
            Some("file") => Err(self
                .wrong("url", "to be a URL that the upstream can fetch".to_owned())
                .with_hint("a file of this machine goes into `path`")),
            _ => Err(self.wrong("url", "to be an `http:`, `https:` or `data:…;base64,` URL".to_owned())),
        }
    }

    /// ``expected `content[1].data` to be base 64``: the value itself is not said again, since it may be large or secret.
    fn wrong(&self, member: &str, expected: String) -> Error {
        Error::invalid_params(format!("expected `{}.{member}` {expected}", self.place))
    }

    fn too_large(&self, member: &str, size: u64, max: u64) -> Error {
        let message = format!("expected `{}.{member}` to have at most {}", self.place, mebibytes(max));
        Error::new(Kind::InputTooLarge, message).with_size(size)
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests;
