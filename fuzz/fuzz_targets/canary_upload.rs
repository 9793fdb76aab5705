//! Files of operators that get a call-back put in.
#![no_main]

use decnet::canary::{Base, Slug, UPLOAD_MAX, instrument};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let slug = Slug::parse("mzxw6ytboiydcmrtgq2tmnzyhe").expect("a slug");
    let base = Base {
        http: "http://files.example.org:8088".to_owned(),
        dns_zone: Some("cdn.example.org".to_owned()),
    };
    // The first byte chooses how it is called.
    let (first, rest) = data.split_first().unwrap_or((&0, data));
    let names = ["a.docx", "a.pdf", "a.html", "a.svg", "a.png", "a.jpg", "a.sh", "a"];
    let name = names[usize::from(*first) % names.len()];
    if let Ok((file, _)) = instrument(name, rest, &slug, &base) {
        assert!(file.bytes.len() <= UPLOAD_MAX + (64 << 10));
    }
});
