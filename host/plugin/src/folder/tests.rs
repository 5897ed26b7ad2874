//! Tests of the plugins folder's files.

use super::*;
use rustix::fs::mkfifoat;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

const BYTES_MAX: u64 = 100;

fn tenant() -> TenantId {
    TenantId::parse("t").expect("a tenant")
}

/// Creates a plugins folder with a folder of the tenant `t`.
fn root() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("t");
    std::fs::create_dir(&folder).expect("made");
    (root, folder)
}

#[test]
fn a_plugin_is_named_by_the_rule_of_plugin_names() {
    #[track_caller]
    fn check(file: &str, expected: Option<Result<&str, &str>>) {
        let expected = expected.map(|name| name.map_err(str::to_owned));
        assert_eq!(plugin_name(file), expected, "{file}");
    }
    check("flatten.wasm", Some(Ok("flatten")));
    check("flatten-2.wasm", Some(Ok("flatten-2")));
    check("._flatten.wasm", None);
    check(".flatten.wasm", None);
    check(".wasm", None);
    check("..data", None);
    check("flatten.wasm.tmp", None);
    check("flatten.txt", None);
    check("flatten.js", Some(Ok("flatten")));
    check(".flatten.js", None);
    check("flatten.js.tmp", None);
    check("flatten.test.js", Some(Err("\"flatten.test.js\"")));
    check("Flatten.wasm", Some(Err("\"Flatten.wasm\"")));
    check("-a.wasm", Some(Err("\"-a.wasm\"")));
    check("a\u{1b}[2J.wasm", Some(Err("\"a\\u{1b}[2J.wasm\"")));
    check("a.b.wasm", Some(Err("\"a.b.wasm\"")));
}

/// Checks the result of reading and of listing a file of the plugin `p` that `make` creates.
#[track_caller]
fn check_file(folder: &Path, make: impl FnOnce(&Path), expected: Result<&str, &str>) {
    let root = folder.parent().expect("a root");
    let file = folder.join("p.wasm");
    make(&file);
    let read = read(root, &tenant(), "p", BYTES_MAX).map_err(|error| error.to_string());
    let read = read.map(|(_, bytes)| String::from_utf8(bytes).expect("text"));
    assert_eq!(read.as_deref().map_err(String::as_str), expected);
    let folders = tenant_folders(root).expect("folders");
    let folder = folders.iter().find(|folder| folder.tenant == tenant()).expect("the tenant's");
    let listed = folder.list().expect("a listing").plugins;
    let found = listed.into_iter().find(|(name, _)| name == "p").expect("the plugin").1;
    let unusable = match found {
        FolderEntry::Unusable(why) => Some(why),
        FolderEntry::File(_) => None,
    };
    // A size is a matter of reading.
    let expected = expected.err().filter(|why| !why.starts_with("the file is too large"));
    assert_eq!(unusable.as_deref(), expected);
    std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file)).expect("removed");
}

#[test]
fn only_regular_files_within_the_folder_are_read() {
    const OUT: Result<&str, &str> =
        Err("the file is a link that leads out of the tenant's folder; copy the file itself into the folder");
    const NOT_REGULAR: Result<&str, &str> = Err("this is not a regular file");
    const TOO_LARGE: Result<&str, &str> = Err("the file is too large: component_bytes_max is 100");
    let (root, folder) = root();
    std::fs::write(root.path().join("secret"), b"secret").expect("written");
    std::fs::create_dir(root.path().join("other")).expect("made");
    std::fs::write(root.path().join("other/p.wasm"), b"another tenant's").expect("written");
    std::fs::create_dir(folder.join("v1")).expect("made");
    std::fs::write(folder.join("v1/p.wasm"), b"mounted").expect("written");
    symlink("v1", folder.join("..data")).expect("linked");
    check_file(&folder, |file| std::fs::write(file, b"component").expect("written"), Ok("component"));
    let largest = "x".repeat(100);
    check_file(&folder, |file| std::fs::write(file, &largest).expect("written"), Ok(&largest));
    check_file(&folder, |file| std::fs::write(file, [b'x'; 101]).expect("written"), TOO_LARGE);
    check_file(&folder, |file| symlink("..data/p.wasm", file).expect("linked"), Ok("mounted"));
    let out = ["../t/v1/p.wasm", "../secret", "../other/p.wasm", "/proc/kmsg", "/proc/self/fd/0", "p.wasm"];
    for target in out {
        check_file(&folder, |file| symlink(target, file).expect("linked"), OUT);
    }
    check_file(&folder, |file| std::fs::create_dir(file).expect("made"), NOT_REGULAR);
    check_file(&folder, |file| drop(UnixListener::bind(file).expect("bound")), NOT_REGULAR);
    let fifo = |file: &Path| mkfifoat(CWD, file, Mode::from_raw_mode(0o600)).expect("made");
    check_file(&folder, fifo, NOT_REGULAR);
}

#[test]
fn a_file_with_its_previous_size_and_time_looks_changed() {
    let (root, folder) = root();
    let path = folder.join("p.wasm");
    std::fs::write(&path, b"one").expect("written");
    let before = std::fs::metadata(&path).expect("there");
    let stamp = || entry(root.path(), &tenant(), "p").expect("there");
    let before_write = stamp();
    assert_eq!(stamp(), before_write);
    // The kernel's clock for files ticks some times in a hundredth of a second.
    while stamp() == before_write {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let mut file = File::options().write(true).open(&path).expect("opened");
        std::io::Write::write_all(&mut file, b"two").expect("written in place");
        file.set_modified(before.modified().expect("a time")).expect("set");
        let after = file.metadata().expect("there");
        assert_eq!(
            (after.len(), after.modified().expect("a time")),
            (before.len(), before.modified().expect("a time"))
        );
    }
}

#[test]
fn a_tenants_folder_is_a_folder_within_the_plugins_folder() {
    let (root, _) = root();
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("p.wasm"), b"x").expect("written");
    symlink(outside.path(), root.path().join("out")).expect("linked");
    symlink("t", root.path().join("within")).expect("linked");
    std::fs::write(root.path().join("file"), b"x").expect("written");
    std::fs::create_dir(root.path().join("No-Tenant")).expect("made");
    let found = tenant_folders(root.path()).expect("folders");
    let mut names: Vec<_> = found.iter().map(|folder| folder.tenant.to_string()).collect();
    names.sort();
    assert_eq!(names, ["t", "within"]);
    let out = TenantId::parse("out").expect("a tenant");
    assert!(matches!(read(root.path(), &out, "p", BYTES_MAX), Err(FolderError::LeadsOut)));
}

#[test]
fn reading_is_bounded_whatever_the_size_says() {
    // A file of proc(5) says that it has no bytes.
    let opened = File::open("/proc/self/status").expect("there");
    assert_eq!(FileStamp::of(&fstat(&opened).expect("a look")).bytes, 0);
    let read = read_regular(opened.into(), BYTES_MAX);
    assert!(matches!(read, Err(FolderError::TooLarge { bytes_max: BYTES_MAX })), "{read:?}");
}

#[test]
fn a_plugin_has_one_file() {
    let (root, folder) = root();
    let kind = || read(root.path(), &tenant(), "p", BYTES_MAX).expect("a file").0;
    std::fs::write(folder.join("p.js"), b"script").expect("written");
    assert_eq!(kind(), FileKind::Script);
    let script = entry(root.path(), &tenant(), "p").expect("there");
    std::fs::write(folder.join("p.wasm"), b"component").expect("written");
    let folders = tenant_folders(root.path()).expect("folders");
    let listed = folders[0].list().expect("a listing").plugins;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(matches!(&listed[0].1, FolderEntry::Unusable(why) if why.contains("p.wasm and p.js")), "{listed:?}");
    std::fs::remove_file(folder.join("p.js")).expect("removed");
    assert_eq!(kind(), FileKind::Component);
    assert_ne!(entry(root.path(), &tenant(), "p").expect("there"), script, "another file is a change");
}
