//! Tools on files.

use std::{
    fs,
    io::{self, BufRead as _, Read, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use crate::fail;

pub(crate) fn cat(args: &[String]) -> u8 {
    each_input("cat", args, |input| io::copy(input, &mut io::stdout().lock()).map(drop))
}

pub(crate) fn head(args: &[String]) -> u8 {
    let (lines, rest) = match args {
        [flag, lines, rest @ ..] if flag == "-n" => match lines.parse() {
            Ok(lines) => (lines, rest),
            Err(_) => return fail("head", format_args!("{lines}: not a number of lines")),
        },
        rest => (10, rest),
    };
    each_input("head", rest, |input| {
        let mut out = io::stdout().lock();
        for line in io::BufReader::new(input).split(b'\n').take(lines) {
            out.write_all(&line?)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

pub(crate) fn wc(args: &[String]) -> u8 {
    each_input("wc", args, |input| {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let lines = bytes.iter().filter(|b| **b == b'\n').count();
        let words = bytes.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).count();
        writeln!(io::stdout(), "{lines:>7} {words:>7} {:>7}", bytes.len())
    })
}

/// Runs `work` on each named file, or on standard input where none is named.
fn each_input(tool: &str, names: &[String], work: impl Fn(&mut dyn Read) -> io::Result<()>) -> u8 {
    if names.is_empty() {
        return work(&mut io::stdin().lock()).map_or_else(|error| fail(tool, error), |()| 0);
    }
    each(tool, names, |name| work(&mut fs::File::open(name)?))
}

/// Runs `work` on each name; one that fails does not keep the others back.
fn each(tool: &str, names: &[String], work: impl Fn(&str) -> io::Result<()>) -> u8 {
    let mut code = 0;
    for name in names {
        if let Err(error) = work(name) {
            code = fail(tool, format_args!("{name}: {error}"));
        }
    }
    code
}

pub(crate) fn mkdir(args: &[String]) -> u8 {
    let names: Vec<String> = args.iter().filter(|a| *a != "-p").cloned().collect();
    each("mkdir", &names, |name| fs::create_dir_all(name))
}

pub(crate) fn touch(args: &[String]) -> u8 {
    each("touch", args, |name| {
        fs::OpenOptions::new().create(true).append(true).open(name).map(drop)
    })
}

pub(crate) fn rm(args: &[String]) -> u8 {
    let recursive = args.iter().any(|a| matches!(a.as_str(), "-r" | "-rf" | "-fr"));
    let names: Vec<String> = args.iter().filter(|a| !a.starts_with('-')).cloned().collect();
    each("rm", &names, |name| {
        if recursive && fs::symlink_metadata(name)?.is_dir() {
            fs::remove_dir_all(name)
        } else {
            fs::remove_file(name)
        }
    })
}

pub(crate) fn mounts(_: &[String]) -> u8 {
    let text = match fs::read_to_string("/proc/self/mounts") {
        Ok(text) => text,
        Err(error) => return fail("mount", error),
    };
    for line in text.lines() {
        if let [source, target, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..] {
            println!("{source} on {target} type {kind} ({options})");
        }
    }
    0
}

pub(crate) fn ls(args: &[String]) -> u8 {
    let flag = |letter| args.iter().any(|a| a.starts_with('-') && a.contains(letter));
    let (all, long) = (flag('a'), flag('l'));
    let mut paths: Vec<String> = args.iter().filter(|a| !a.starts_with('-')).cloned().collect();
    if paths.is_empty() {
        paths.push(".".to_owned());
    }
    let many = paths.len() > 1;
    each("ls", &paths, |path| {
        if !fs::symlink_metadata(path)?.is_dir() {
            return show(Path::new(path), path, long);
        }
        if many {
            println!("{path}:");
        }
        let mut names: Vec<String> = fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.sort();
        names
            .iter()
            .filter(|n| all || !n.starts_with('.'))
            .try_for_each(|name| show(&Path::new(path).join(name), name, long))
    })
}

fn show(path: &Path, name: &str, long: bool) -> io::Result<()> {
    if !long {
        return writeln!(io::stdout(), "{name}");
    }
    let meta = fs::symlink_metadata(path)?;
    let link = fs::read_link(path).map_or(String::new(), |to| format!(" -> {}", to.display()));
    let (mode, size) = (mode_text(&meta), meta.size());
    let (links, uid, gid) = (meta.nlink(), meta.uid(), meta.gid());
    writeln!(io::stdout(), "{mode} {links:>3} {uid:>5} {gid:>5} {size:>10} {name}{link}")
}

fn mode_text(meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    let letter = match kind {
        _ if kind.is_dir() => 'd',
        _ if kind.is_symlink() => 'l',
        _ if kind.is_char_device() => 'c',
        _ if kind.is_block_device() => 'b',
        _ if kind.is_fifo() => 'p',
        _ if kind.is_socket() => 's',
        _ => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(at, c)| if meta.mode() >> (8 - at) & 1 == 1 { c } else { '-' });
    std::iter::once(letter).chain(bits).collect()
}
