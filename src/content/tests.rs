//! Every kind of part with real files, and a table of all that is refused.

use std::path::Path;

use super::*;
use serde_json::json;

/// The smallest PNG: one pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\
    \xdac\xfc\xcf\xc0\xf0\x1f\0\x05\x05\x02\0_\xc8\xf1\xd2\0\0\0\0IEND\xaeB`\x82";

fn parts(parts: serde_json::Value) -> Vec<Part> {
    serde_json::from_value(parts).unwrap()
}

fn read_one(part: serde_json::Value) -> Result<Part, Error> {
    read_parts(parts(json!([part]))).map(|mut parts| parts.remove(0))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn paths_are_read_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let image = write(folder.path(), "a b.png", PNG);
    let file = write(folder.path(), "grün.csv", "a,ü\n".as_bytes());
    let code = write(folder.path(), "main.rs", b"fn main() {}\n");
    let uri = |path: &str| Url::from_file_path(path).unwrap().to_string();
    assert!(uri(&image).contains("a%20b") && uri(&file).contains("gr%C3%BCn"));

    let expected = parts(json!([
        { "type": "text", "text": "Look" },
        { "type": "image", "data": STANDARD.encode(PNG), "mimeType": "image/png", "detail": "low" },
        { "type": "file", "data": STANDARD.encode("a,ü\n"), "mimeType": "text/csv", "name": "grün.csv" },
        { "type": "resource", "uri": uri(&code), "text": "fn main() {}\n" },
        { "type": "resource", "uri": "untitled:1", "text": "" }
    ]));
    for (image, file) in [(image.clone(), file.clone()), (uri(&image), uri(&file))] {
        let content = parts(json!([
            { "type": "text", "text": "Look" },
            { "type": "image", "path": image, "detail": "low" },
            { "type": "file", "path": file },
            { "type": "resource", "uri": uri(&code) },
            { "type": "resource", "uri": "untitled:1", "text": "" }
        ]));
        assert_eq!(read(content).await.unwrap(), expected);
    }
    assert_eq!(
        read(expected.clone()).await.unwrap(),
        expected,
        "what was read is read again as it is"
    );
}

#[test]
fn data_is_taken_in_every_spelling_of_base_64() {
    let expected = STANDARD.encode(b"\xfb\xef\xff\xfe");
    for data in ["++///g==", "++///g", "--___g==", "--___g", "++//\n/g==\r\n"] {
        let part = read_one(json!({ "type": "file", "data": data, "name": "a", "mimeType": "text/x-own" })).unwrap();
        let Part::File(file) = part else { unreachable!() };
        assert_eq!(file.data.as_ref(), Some(&expected), "{data:?}");
        assert_eq!(
            file.mime_type.as_deref(),
            Some("text/x-own"),
            "what the client says of a file counts"
        );
    }
}

#[test]
fn an_image_is_what_its_bytes_are() {
    let data = STANDARD.encode(PNG);
    let expected = json!({ "type": "image", "data": data, "mimeType": "image/png" });
    for image in [
        json!({ "type": "image", "data": data, "mimeType": "image/jpeg" }),
        json!({ "type": "image", "url": format!("data:image/jpeg;base64,{data}") }),
    ] {
        assert_eq!(json!(read_one(image).unwrap()), expected);
    }
    for kept in [
        json!({ "type": "image", "url": "https://example.org/a.png" }),
        json!({ "type": "image", "fileId": "file_1", "detail": "high" }),
        json!({ "type": "file", "fileId": "file_1" }),
    ] {
        assert_eq!(json!(read_one(kept.clone()).unwrap()), kept);
    }
}

#[test]
fn every_bad_part_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().to_str().unwrap();
    let text = write(folder.path(), "a.txt", b"hello");
    let latin = write(folder.path(), "latin.txt", b"gr\xfcn");
    let missing = format!("{there}/missing");
    let rows = [
        (
            json!({ "type": "image" }),
            "expected exactly one of `path`, `url`, `data` or `fileId` in `content[0]`, found none",
        ),
        (
            json!({ "type": "file" }),
            "expected exactly one of `path`, `data` or `fileId` in `content[0]`, found none",
        ),
        (
            json!({ "type": "image", "path": "/a", "url": "https://a", "data": "" }),
            "expected exactly one of `path`, `url`, `data` or `fileId` in `content[0]`, found `path`, `url` and `data`",
        ),
        (
            json!({ "type": "file", "fileId": "" }),
            "expected `content[0].fileId` not to be empty",
        ),
        (
            json!({ "type": "file", "path": "a.txt" }),
            "expected `content[0].path` to be an absolute path or a `file:` URI of this machine, found `a.txt`",
        ),
        (
            json!({ "type": "image", "path": "file://elsewhere/a" }),
            "expected `content[0].path` to be an absolute path or a `file:` URI of this machine, found `file://elsewhere/a`",
        ),
        (
            json!({ "type": "file", "path": missing }),
            &format!("failed to read `{missing}`, which is `content[0].path`: there is no such file"),
        ),
        (
            json!({ "type": "file", "path": there }),
            &format!("failed to read `{there}`, which is `content[0].path`: it is a directory"),
        ),
        (
            json!({ "type": "file", "path": "/dev/zero" }),
            "failed to read `/dev/zero`, which is `content[0].path`: it is no regular file",
        ),
        (
            json!({ "type": "image", "path": text }),
            "expected `content[0].path` to be an image that models take (PNG, JPEG, GIF or WebP), found something else",
        ),
        (
            json!({ "type": "image", "data": STANDARD.encode(b"BM\0\0\0\0"), "mimeType": "image/png" }),
            "expected `content[0].data` to be an image that models take (PNG, JPEG, GIF or WebP), found `image/bmp`",
        ),
        (
            json!({ "type": "image", "data": "no base 64" }),
            "expected `content[0].data` to be base 64",
        ),
        (
            json!({ "type": "file", "data": "a" }),
            "expected `content[0].data` to be base 64",
        ),
        (
            json!({ "type": "image", "url": "ftp://a" }),
            "expected `content[0].url` to be an `http:`, `https:` or `data:…;base64,` URL",
        ),
        (
            json!({ "type": "image", "url": format!("https://a/{}", "b".repeat(8200)) }),
            "expected `content[0].url` to have at most 8192 bytes",
        ),
        (
            json!({ "type": "image", "url": "file:///a.png" }),
            "expected `content[0].url` to be a URL that the upstream can fetch",
        ),
        (
            json!({ "type": "file", "data": "", "mimeType": "text" }),
            "expected `content[0].mimeType` to be a media type such as `text/csv`",
        ),
        (
            json!({ "type": "file", "data": "", "name": "a\nb" }),
            "expected `content[0].name` to be a name of at most 255 bytes on one line",
        ),
        (
            json!({ "type": "resource", "uri": "untitled:1" }),
            "expected `content[0].text`, which only a `file:` URI may leave out",
        ),
        (
            json!({ "type": "resource", "uri": format!("file://{latin}") }),
            "expected `content[0].uri` to name a text in UTF-8",
        ),
    ];
    for (part, message) in rows {
        let error = read_one(part.clone()).unwrap_err();
        assert_eq!(
            (error.kind(), &*error.message),
            (Kind::InvalidParams, message),
            "{part}"
        );
    }
    let error = read_parts(parts(json!([{ "type": "text", "text": "a" }, { "type": "file" }]))).unwrap_err();
    assert!(error.message.contains("content[1]"), "{error}");
}

#[test]
fn what_is_too_large_is_refused_with_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let sparse = |name: &str, size: u64| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = |content: serde_json::Value| {
        let error = read_parts(parts(content)).unwrap_err();
        assert_eq!(error.kind(), Kind::InputTooLarge);
        (error.message.into_owned(), error.data.size)
    };
    let image = json!({ "type": "image", "path": sparse("image", IMAGE_MAX + 1) });
    let message = "expected `content[0].path` to have at most 20 MiB".to_owned();
    assert_eq!(refused(json!([image])), (message, Some(IMAGE_MAX + 1)));

    let message = "expected `content[0].path` to have at most 32 MiB".to_owned();
    let file = json!({ "type": "file", "path": sparse("file", FILE_MAX + 1) });
    assert_eq!(refused(json!([file])), (message, Some(FILE_MAX + 1)));

    let data = "A".repeat((IMAGE_MAX as usize + 3) / 3 * 4 + 4);
    let message = "expected `content[0].data` to have at most 20 MiB".to_owned();
    assert_eq!(refused(json!([{ "type": "image", "data": data }])).0, message);

    let whole = json!({ "type": "file", "path": sparse("whole", FILE_MAX) });
    let two = parts(json!([whole, whole]));
    assert_eq!(read_parts(two).unwrap().len(), 2, "exactly as much as is allowed");
    let over = json!({ "type": "file", "data": "YQ==" });
    let message = "expected the images, files and resources of one message to have at most 64 MiB together".to_owned();
    assert_eq!(refused(json!([whole, whole, over])), (message, Some(MESSAGE_MAX + 1)));
}

/// A pipe that nobody writes to, a name with a line break in it, and a file of the system whose size is 0 until it is read.
#[cfg(target_os = "linux")]
#[test]
fn odd_files_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let error = read_one(json!({ "type": "file", "path": pipe })).unwrap_err();
    assert!(error.message.ends_with("it is no regular file"), "{error}");

    let odd = write(folder.path(), "two\nlines.txt", b"");
    let part = read_one(json!({ "type": "file", "path": odd })).unwrap();
    assert!(matches!(part, Part::File(File { name: Some(name), .. }) if name == "two_lines.txt"));

    let part = read_one(json!({ "type": "file", "path": "/proc/self/status" })).unwrap();
    let Part::File(file) = part else { unreachable!() };
    assert!(file.text().unwrap().starts_with("Name:"));
}
