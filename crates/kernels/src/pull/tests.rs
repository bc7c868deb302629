//! A kernel from a mirror of our own making on the loopback, whole and with everything that can be
//! wrong with one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    debian::deb::tests::deb,
    image::tests::bzimage,
    modules::tests::module,
    openpgp::forge::{Key, MADE, SIGNS},
};

/// 2026-01-02T00:00:00Z, a day after the keys were made.
const NOW: u64 = MADE as u64 + 86_400;
const DATE: &str = "Thu, 01 Jan 2026 12:00:00 UTC";
const RELEASE: &str = "6.1.0-9-cloud-amd64";
const INDEX: &str = "dists/bookworm/InRelease";
const LIST: &str = "dists/bookworm/main/binary-amd64/Packages.xz";

/// What a mirror answers: a file, or a file of which the connection carries only so much.
#[derive(Clone)]
enum Answer {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
    /// More than is said: without a length, and without an end.
    Endless,
}

/// A mirror on the loopback.
struct Served {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve(files: BTreeMap<String, Answer>) -> Served {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/debian", socket.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = asked.clone();
    // It ends with the process of the test.
    thread::spawn(move || {
        for stream in socket.incoming() {
            answer(stream.unwrap(), &files, &told);
        }
    });
    Served { url, asked }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Answer>, told: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend(&part[..count]),
        }
    }
    let text = String::from_utf8(request).unwrap();
    let path = text.split(' ').nth(1).unwrap().trim_start_matches("/debian/").to_owned();
    told.lock().unwrap().push(path.clone());
    // Whoever has read enough goes away.
    let _ =
        match files.get(&path) {
            None => stream
                .write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            Some(Answer::Whole(body)) => {
                head(&mut stream, body.len()).and_then(|()| stream.write_all(body))
            }
            Some(Answer::Cut(body)) => head(&mut stream, body.len())
                .and_then(|()| stream.write_all(&body[..body.len() / 2])),
            Some(Answer::Endless) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                while stream.write_all(&[b'x'; 65_536]).is_ok() {}
                Ok(())
            }
        };
}

fn head(stream: &mut TcpStream, bytes: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n")
}

fn sha256(bytes: &[u8]) -> String {
    base::Digest::from_sha256(Sha256::digest(bytes).into()).hex()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut to = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// What is made of an archive, step by step, so that a test can change one of them.
struct Archive {
    package: Vec<u8>,
    /// Changes the list of packages before it is compressed.
    list: fn(String) -> String,
    /// Changes the index before it is signed.
    index: fn(String) -> String,
    key: Key,
}

impl Default for Archive {
    fn default() -> Archive {
        let erofs = module("erofs", RELEASE, "libcrc32c", "");
        let crc = module("libcrc32c", RELEASE, "", "");
        let sound = module("sound", RELEASE, "", "");
        let kernel = bzimage(RELEASE);
        let (boot, lib) = (format!("./boot/vmlinuz-{RELEASE}"), format!("./lib/modules/{RELEASE}"));
        let package = deb(&[
            ("./boot/", b""),
            (&boot, &kernel),
            (&format!("./boot/config-{RELEASE}"), b"CONFIG_64BIT=y\n"),
            (&format!("./boot/System.map-{RELEASE}"), b"0 T _text\n"),
            (&format!("{lib}/kernel/fs/erofs/erofs.ko"), &erofs),
            (&format!("{lib}/kernel/lib/libcrc32c.ko"), &crc),
            (&format!("{lib}/kernel/sound/sound.ko"), &sound),
            (&format!("{lib}/modules.builtin"), b"kernel/fs/ext4/ext4.ko\n"),
        ]);
        Archive { package, list: |text| text, index: |text| text, key: Key::ed25519(7) }
    }
}

impl Archive {
    fn files(&self) -> BTreeMap<String, Answer> {
        let image = format!("linux-image-{RELEASE}");
        let list = format!(
            "Package: {PACKAGE}\nVersion: 6.1.9-1\nDepends: {image} (= 6.1.9-1)\n\
             Filename: pool/meta.deb\nSize: 1\nSHA256: {}\n\n\
             Package: {image}\nVersion: 6.1.9-1\nFilename: pool/image.deb\nSize: {}\nSHA256: {}\n\n",
            sha256(b"meta"),
            self.package.len(),
            sha256(&self.package),
        );
        let list = xz((self.list)(list).as_bytes());
        let mut index = format!("Suite: oldstable\nCodename: bookworm\nDate: {DATE}\nSHA256:\n");
        writeln!(index, " {} {} main/binary-amd64/Packages.xz", sha256(&list), list.len()).unwrap();
        let signed = self.key.sign_text(&(self.index)(index), &[]);
        BTreeMap::from([
            (INDEX.to_owned(), Answer::Whole(signed.into_bytes())),
            (LIST.to_owned(), Answer::Whole(list)),
            ("pool/image.deb".to_owned(), Answer::Whole(self.package.clone())),
        ])
    }
}

/// A store, and a key ring with the key of the archive.
struct Here {
    directory: TempDir,
    store: Store,
}

fn here() -> Here {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("keys"), Key::ed25519(7).certificate(SIGNS)).unwrap();
    let store = Store::new(directory.path().join("kernels"));
    Here { directory, store }
}

impl Here {
    fn settings(&self, mirrors: &[&Served]) -> Settings {
        let mirror =
            |served: &&Served| Mirror { url: served.url.clone(), suite: "bookworm".to_owned() };
        Settings {
            mirrors: mirrors.iter().map(mirror).collect(),
            keyring: Some(self.directory.path().join("keys")),
        }
    }

    fn pull(&self, mirrors: &[&Served]) -> Result<(Added, Vec<Event>), PullError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut events = Vec::new();
        let mut tell = |event| events.push(event);
        let settings = self.settings(mirrors);
        let pulled = runtime.block_on(pull(&self.store, &settings, None, NOW, &mut tell));
        pulled.map(|added| (added, events))
    }

    /// What a pull from these files fails of; the store is as it was.
    fn refused(&self, files: BTreeMap<String, Answer>) -> String {
        let error = self.pull(&[&serve(files)]).unwrap_err();
        let left = std::fs::read_dir(self.directory.path().join("kernels"));
        let left: Vec<_> = left.into_iter().flatten().map(|it| it.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "lock"), "{left:?}");
        base::chain(&error)
    }
}

#[test]
fn a_kernel_is_fetched_verified_and_kept_once() {
    let here = here();
    let served = serve(Archive::default().files());
    let (added, events) = here.pull(&[&served]).unwrap();
    assert!(added.new);
    assert_eq!(added.kernel.manifest.name, format!("debian-{RELEASE}"));
    let names: Vec<&str> =
        added.kernel.manifest.modules.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["libcrc32c", "erofs"]);
    assert!(added.kernel.config().is_some());
    let Source::Debian { version, .. } = &added.kernel.manifest.source else { panic!() };
    assert_eq!(version, "6.1.9-1");
    let fetched: Vec<&str> = events
        .iter()
        .filter_map(
            |event| if let Event::Fetched { what } = event { Some(what.as_str()) } else { None },
        )
        .collect();
    let image = format!("linux-image-{RELEASE}");
    assert_eq!(fetched, ["bookworm InRelease", "bookworm Packages.xz", &image]);
    let whole = |event: &Event| matches!(event, Event::Fetching { done, total, what } if done == total && *what == image);
    assert!(events.iter().any(whole), "{events:?}");
    // The second time only the lists are looked at.
    let (again, _) = here.pull(&[&served]).unwrap();
    assert!(!again.new);
    assert_eq!(again.kernel, added.kernel);
    // Nor is anything fetched for another name.
    let settings = here.settings(&[&served]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let renamed = runtime.block_on(pull(&here.store, &settings, Some("mine"), NOW, &mut |_| {}));
    assert_eq!(renamed.unwrap().kernel.manifest.name, "mine");
    assert_eq!(here.store.kernels().unwrap().len(), 1);
    let asked = served.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|path| *path == "pool/image.deb").count(), 1, "{asked:?}");
}

#[test]
fn a_source_is_found_through_the_package_that_stands_for_it() {
    let list = |_| {
        let stanza = |name: &str, version: &str, depends: &str, file: &str| {
            format!(
                "Package: {name}\nVersion: {version}\nDepends: {depends}\nFilename: pool/{file}\n\
                 Size: 1\nSHA256: {}\n\n",
                sha256(file.as_bytes())
            )
        };
        stanza("linux-source", "6.1.9-1", "linux-source-6.1", "meta")
            + &stanza("linux-source-6.1", "6.1.9-1", "xz-utils", "old")
            + &stanza("linux-source-6.1", "6.1.10-1", "xz-utils", "new")
            + &stanza("linux-source-6.5", "6.5.1-1", "xz-utils", "other")
    };
    let here = here();
    let served = serve(Archive { list, ..Archive::default() }.files());
    let settings = here.settings(&[&served]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fetcher = Fetcher::new().unwrap();
    let mut tell = |_| {};
    let found = find(&fetcher, &settings, "linux-source", "linux-source-", NOW, &mut tell);
    let package = runtime.block_on(found).unwrap().package;
    assert_eq!((package.version.as_str(), package.path.as_str()), ("6.1.10-1", "pool/new"));
}

#[test]
fn of_several_mirrors_the_latest_kernel_is_taken() {
    let old = Archive { list: |text| text.replace("6.1.9-1", "6.1.8-3"), ..Archive::default() };
    let [old, new] = [old.files(), Archive::default().files()].map(serve);
    let (added, _) = here().pull(&[&new, &old]).unwrap();
    let Source::Debian { version, mirror, .. } = &added.kernel.manifest.source else { panic!() };
    assert_eq!(version, "6.1.9-1");
    assert!(mirror.starts_with(&new.url));
}

#[test]
fn files_are_asked_for_by_their_digests_where_the_archive_has_them_so() {
    let archive =
        Archive { index: |text| format!("Acquire-By-Hash: yes\n{text}"), ..Archive::default() };
    let mut files = archive.files();
    let Some(Answer::Whole(list)) = files.remove(LIST) else { panic!() };
    let path = format!("dists/bookworm/main/binary-amd64/by-hash/SHA256/{}", sha256(&list));
    files.insert(path, Answer::Whole(list));
    assert!(here().pull(&[&serve(files)]).unwrap().0.new);
    // A mirror without them is asked by name.
    assert!(here().pull(&[&serve(archive.files())]).unwrap().0.new);
}

#[test]
fn an_index_that_is_not_signed_by_a_known_key_is_refused() {
    let here = here();
    let stranger = Archive { key: Key::ed25519(8), ..Archive::default() };
    let said = here.refused(stranger.files());
    assert!(said.contains("is not believed") && said.contains("not in the key ring"), "{said}");
    let mut files = Archive::default().files();
    let Some(Answer::Whole(index)) = files.get_mut(INDEX) else { panic!() };
    let at = index.windows(9).position(|window| window == b"oldstable").unwrap();
    index[at] = b'O';
    assert!(here.refused(files).contains("it was changed"));
    let mut files = Archive::default().files();
    files.insert(INDEX.to_owned(), Answer::Whole(b"Suite: bookworm\n".to_vec()));
    assert!(here.refused(files).contains("does not begin with a signed message"));
}

#[test]
fn an_index_of_another_suite_or_another_time_is_refused() {
    let here = here();
    let refused =
        |index: fn(String) -> String| here.refused(Archive { index, ..Archive::default() }.files());
    let said = refused(|text| text.replace("bookworm", "sid"));
    assert!(said.contains("index of sid (oldstable), and bookworm was asked for"), "{said}");
    let said = refused(|text| format!("Valid-Until: Thu, 01 Jan 2026 23:59:59 UTC\n{text}"));
    assert!(said.contains("expired on Thu, 01 Jan 2026 23:59:59 UTC"), "{said}");
    let said = refused(|text| text.replace("Thu, 01 Jan 2026", "Sun, 01 Feb 2026"));
    assert!(said.contains("yet to come"), "{said}");
    let said = refused(|text| text.replace("SHA256:", "MD5Sum:"));
    assert!(said.contains("no SHA256"), "{said}");
    let said = refused(|text| text.replace("binary-amd64", "binary-arm64"));
    assert!(said.contains("no main/binary-amd64/Packages.xz"), "{said}");
}

#[test]
fn a_file_that_is_not_what_was_signed_is_refused() {
    let here = here();
    for path in [LIST, "pool/image.deb"] {
        let with = |answer: fn(Vec<u8>) -> Answer| {
            let mut files = Archive::default().files();
            let Some(Answer::Whole(content)) = files.remove(path) else { panic!() };
            files.insert(path.to_owned(), answer(content));
            here.refused(files)
        };
        let said = with(|mut content| {
            content[100] ^= 1;
            Answer::Whole(content)
        });
        assert!(said.contains("and the signed index says"), "{said}");
        let said = with(|mut content| {
            content.push(0);
            Answer::Whole(content)
        });
        assert!(said.contains("is longer than"), "{said}");
        let said = with(|mut content| {
            content.pop();
            Answer::Whole(content)
        });
        assert!(said.contains("was cut short"), "{said}");
        assert!(with(Answer::Cut).contains("cannot fetch"));
        assert!(with(|_| Answer::Endless).contains("is longer than"));
        let mut files = Archive::default().files();
        files.remove(path);
        assert!(here.refused(files).contains("the mirror answers 404"));
    }
    let mut files = Archive::default().files();
    files.insert(INDEX.to_owned(), Answer::Endless);
    assert!(here.refused(files).contains("is longer than"));
}

#[test]
fn lists_and_packages_that_are_signed_and_make_no_sense_are_refused() {
    let here = here();
    let refused =
        |list: fn(String) -> String| here.refused(Archive { list, ..Archive::default() }.files());
    assert!(
        refused(|_| "Package: other\n".to_owned())
            .contains("no mirror has a package linux-image-cloud")
    );
    assert!(refused(|_| "nonsense\n".to_owned()).contains("line 1 is no field"));
    let said = refused(|text| text.replace("\nSize: ", "\nSize: 9999999"));
    assert!(said.contains("more than the"), "{said}");
    let said =
        here.refused(Archive { package: b"no package".to_vec(), ..Archive::default() }.files());
    assert!(said.contains("no package of Debian's"), "{said}");
    let empty = deb(&[("./usr/share/doc/a", b"a")]);
    let said = here.refused(Archive { package: empty, ..Archive::default() }.files());
    assert!(said.contains("has no kernel"), "{said}");
    let twice = deb(&[("./boot/vmlinuz-6.1", b"a"), ("./boot/vmlinuz-6.2", b"b")]);
    let said = here.refused(Archive { package: twice, ..Archive::default() }.files());
    assert!(said.contains("cannot unpack"), "{said}");
    let wrong = deb(&[("./boot/vmlinuz-6.1", b"no kernel")]);
    let said = here.refused(Archive { package: wrong, ..Archive::default() }.files());
    assert!(said.contains("no kernel that can be started"), "{said}");
}

#[test]
fn a_fetch_that_is_given_up_leaves_nothing() {
    let here = here();
    let mut files = Archive::default().files();
    files.insert("pool/image.deb".to_owned(), Answer::Endless);
    let served = serve(files);
    let settings = here.settings(&[&served]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tell = |_| {};
        let pulling = pull(&here.store, &settings, None, NOW, &mut tell);
        // It is asked for, and then nobody waits any more.
        let asked = async {
            while !served.asked.lock().unwrap().iter().any(|path| path == "pool/image.deb") {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::select! { biased; () = asked => {}, _ = pulling => {} }
    });
    let left = std::fs::read_dir(here.directory.path().join("kernels")).unwrap();
    assert!(left.flatten().all(|entry| entry.file_name() == "lock"));
}

/// Debian's own mirror.
#[test]
#[ignore = "asks deb.debian.org"]
fn debians_own_kernel_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let now = base::clock::Timestamp::now().seconds();
    let mut tell = |_| {};
    let settings = Settings::default();
    let pulled = pull(&store, &settings, None, now, &mut tell);
    let added = runtime.block_on(pulled).unwrap();
    assert!(added.kernel.boot_file().ends_with("vmlinux"));
    assert!(added.missing.is_empty(), "{:?}", added.missing);
}

#[test]
fn of_a_package_the_kernel_and_its_modules_are_taken() {
    let taken = |path: &'static str| wanted(path.as_bytes());
    assert_eq!(taken("./boot/vmlinuz-6.1.0-56-cloud-amd64"), Some(Wanted::Kernel));
    assert_eq!(taken("./boot/config-6.1.0"), Some(Wanted::Config));
    let module = "./lib/modules/6.1.0/kernel/fs/erofs/erofs.ko";
    assert_eq!(taken(module), Some(Wanted::Module("erofs.ko")));
    let merged = "./usr/lib/modules/6.12.1/kernel/fs/erofs/erofs.ko.xz";
    assert_eq!(taken(merged), Some(Wanted::Module("erofs.ko.xz")));
    let list = "./lib/modules/6.1.0/modules.builtin";
    assert_eq!(taken(list), Some(Wanted::Module("modules.builtin")));
    for not in [
        "./boot/System.map-6.1.0",
        "./boot/vmlinuz-",
        "./boot/sub/vmlinuz-6.1.0",
        "./lib/modules/6.1.0/modules.order",
        "./usr/share/doc/a.ko",
        "vmlinuz-6.1.0",
    ] {
        assert_eq!(taken(not), None, "{not}");
    }
}
