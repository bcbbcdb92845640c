//! What bytes are: their media type, told from themselves and from a name. Pure.

use mime_guess::Mime;

/// The types of images that models take.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The type of an image that models take; for any other bytes, words that say what they are.
pub fn image_type(bytes: &[u8]) -> Result<&'static str, String> {
    let found = infer::get(bytes).map(|kind| kind.mime_type());
    let image = IMAGES.into_iter().find(|image| found == Some(*image));
    image.ok_or_else(|| match found {
        Some(found) => format!("`{found}`"),
        None if bytes.is_empty() => "nothing".to_owned(),
        None => "something else".to_owned(),
    })
}

/// The type of a file: what its bytes say, then what its name says, then whether it is text.
pub fn file_type(bytes: &[u8], name: Option<&str>) -> String {
    if let Some(kind) = infer::get(bytes) {
        return kind.mime_type().to_owned();
    }
    let is_text = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    let guess = name.and_then(|name| mime_guess::from_path(name).first());
    match guess {
        // TypeScript has the extension of a video.
        Some(guess) if !is_text || is_written(&guess) => guess.essence_str().to_owned(),
        _ if is_text => "text/plain".to_owned(),
        _ => "application/octet-stream".to_owned(),
    }
}

/// Whether files of this type may be text.
fn is_written(mime: &Mime) -> bool {
    matches!(mime.type_().as_str(), "text" | "application" | "message" | "multipart")
        || mime.suffix().is_some_and(|suffix| suffix == "xml")
}

/// Whether this is `type/subtype`, with or without parameters.
pub fn is_media_type(text: &str) -> bool {
    let mime = text.parse::<Mime>().ok().filter(|_| text.len() <= 255);
    mime.is_some_and(|mime| !mime.type_().as_str().is_empty() && !mime.subtype().as_str().is_empty())
}

/// The base 64 of a `data:` URL; none for every other URL.
pub fn data_of_url(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_at_checked(5)?;
    let (kind, data) = rest.split_once(',')?;
    (scheme.eq_ignore_ascii_case("data:") && kind.ends_with(";base64")).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_bytes_say_then_what_its_name_says() {
        let rows: [(&[u8], Option<&str>, &str); 13] = [
            (b"%PDF-1.7", Some("a.txt"), "application/pdf"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\0", None, "image/png"),
            (b"a,b\n", Some("a.csv"), "text/csv"),
            (b"fn main() {}", Some("src/main.rs"), "text/x-rust"),
            (b"export {}", Some("a.ts"), "text/plain"),
            (b"{}", Some("a.json"), "application/json"),
            (b"<svg/>", Some("a.svg"), "image/svg+xml"),
            (b"all:\n", Some("Makefile"), "text/plain"),
            (b"all:\n", None, "text/plain"),
            (b"", None, "text/plain"),
            (b"gr\xfcn", Some("a.txt"), "text/plain"),
            (b"\0\x01\x02", Some("a.unknown"), "application/octet-stream"),
            (b"\0\x01\x02", None, "application/octet-stream"),
        ];
        for (bytes, name, expected) in rows {
            assert_eq!(file_type(bytes, name), expected, "{name:?} {bytes:?}");
        }
    }

    #[test]
    fn only_images_that_models_take_are_images() {
        assert_eq!(image_type(b"\xff\xd8\xff\xe0\0\0"), Ok("image/jpeg"));
        assert_eq!(image_type(b"GIF89a"), Ok("image/gif"));
        assert_eq!(image_type(b"BM\0\0\0\0"), Err("`image/bmp`".into()));
        assert_eq!(image_type(b"hello"), Err("something else".into()));
        assert_eq!(image_type(b""), Err("nothing".into()));
    }

    #[test]
    fn media_types_have_two_halves() {
        for good in ["text/plain", "text/plain; charset=utf-8", "application/vnd.ms-excel"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "text", "text/", "/plain", "text/plain\r\nx: y", "text plain"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }

    #[test]
    fn data_urls_are_told_from_others() {
        assert_eq!(data_of_url("data:image/png;base64,YQ=="), Some("YQ=="));
        for other in [
            "https://example.org/a,b;base64,YQ==",
            "data:,hello",
            "data",
            "data:image/png;base64",
        ] {
            assert_eq!(data_of_url(other), None, "{other}");
        }
    }
}
