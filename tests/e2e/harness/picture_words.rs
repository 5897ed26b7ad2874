//! Words of pages on committed pictures. A picture itself is not compared, since fonts differ between machines.

use super::root;

/// Returns a text without what differs between two runs: keys, ids and numbers. One word a line.
fn words(text: &str) -> String {
    fn word(word: &str) -> String {
        let has_digit = word.contains(|letter: char| letter.is_ascii_digit());
        let is_random = has_digit && word.len() > 7;
        let shown =
            if is_random { "…".to_owned() } else { word.replace(|letter: char| letter.is_ascii_digit(), "0") };
        format!("{shown}\n")
    }
    text.split_whitespace().map(word).collect()
}

/// Compares the text on a picture with the committed words, in a folder of `tests/fixtures`, and writes its words into the same folder
/// of `target`. Returns what is wrong.
pub(crate) fn fault_of_picture(folder: &str, name: &str, text: &str) -> Option<String> {
    let shown = words(text);
    std::fs::write(root().join(format!("target/{folder}/{name}.txt")), &shown).unwrap();
    let kept = root().join(format!("tests/fixtures/{folder}/{name}.txt"));
    let is_same = std::fs::read_to_string(kept).unwrap_or_default() == shown;
    (!is_same).then(|| format!("{name}: it reads {shown:?}"))
}

/// Fails if pictures are out of date. `images` is the folder of the documentation with them.
#[track_caller]
pub(crate) fn check_pictures(folder: &str, images: &str, faults: &[String]) {
    assert!(
        faults.is_empty(),
        "pages differ from their pictures in {images}; look at target/{folder}, then copy each .png to {images} \
         and each .txt to tests/fixtures/{folder}:\n{}",
        faults.join("\n")
    );
}
