use super::*;
use std::os::unix::fs::symlink;

fn of(error: &io::Error) -> String {
    unsafe_of(error).expect("it is refused as unsafe").to_string()
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn fresh() -> (tempfile::TempDir, Dir) {
    let room = tempfile::tempdir().unwrap();
    fs::create_dir(room.path().join("ours")).unwrap();
    set(&room.path().join("ours"), 0o700);
    let dir = Dir::open(&room.path().join("ours")).unwrap();
    (room, dir)
}

#[test]
fn directory_that_others_can_write_is_refused_with_the_remedy() {
    let (_room, dir) = fresh();
    for mode in [0o777, 0o1777, 0o770, 0o702] {
        set(dir.path(), mode);
        let refused = of(&Dir::open(dir.path()).err().unwrap());
        assert!(refused.contains(&format!("chmod go-w {}", dir.path().display())), "{refused}");
    }
    set(dir.path(), 0o755);
    Dir::open(dir.path()).unwrap();
}

#[test]
fn directory_below_one_that_others_can_write_is_refused() {
    let (room, dir) = fresh();
    for (mode, accepted) in [(0o777, false), (0o707, false), (0o1777, true), (0o755, true)] {
        set(room.path(), mode);
        let opened = Dir::open(dir.path());
        assert_eq!(opened.is_ok(), accepted, "{mode:o}");
        if let Err(error) = opened {
            let refused = of(&error);
            assert!(refused.starts_with(&room.path().display().to_string()), "{refused}");
            assert!(refused.contains("chmod go-w"), "{refused}");
        }
    }
    set(room.path(), 0o700);
}

#[test]
fn given_path_may_contain_links_and_is_resolved_once() {
    let (room, dir) = fresh();
    let link = room.path().join("link");
    symlink("ours", &link).unwrap();
    let by_link = Dir::open(&link).unwrap();
    assert_eq!(by_link.path(), dir.path());
    by_link.create_file("a".as_ref()).unwrap();
    assert!(dir.path().join("a").exists());
}

#[test]
fn link_in_a_directory_of_ours_is_refused_and_its_target_stays_as_it_was() {
    let (room, dir) = fresh();
    let target = room.path().join("target");
    fs::write(&target, "precious").unwrap();
    set(&target, 0o644);
    symlink(&target, dir.path().join("lock")).unwrap();
    symlink(room.path(), dir.path().join("tls")).unwrap();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
    let refused = of(&dir.open_file("lock".as_ref(), flags).unwrap_err());
    assert!(refused.contains("symbolic link"), "{refused}");
    assert!(dir.create_file("lock".as_ref()).is_err());
    assert!(of(&dir.open_dir("tls".as_ref()).err().unwrap()).contains("symbolic link"));
    assert!(dir.check_below(&|_| false, &|_| false).is_err());
    assert!(dir.sync_below().is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn file_with_a_second_name_is_refused() {
    let (room, dir) = fresh();
    let target = room.path().join("target");
    fs::write(&target, "precious").unwrap();
    fs::hard_link(&target, dir.path().join("lock")).unwrap();
    let refused = of(&dir.open_file("lock".as_ref(), OFlags::RDWR).unwrap_err());
    assert!(refused.contains("hard link"), "{refused}");
}

#[test]
fn pipe_is_refused_without_waiting_for_its_other_end() {
    let (_room, dir) = fresh();
    let pipe = dir.path().join("lock");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        assert!(of(&dir.open_file("lock".as_ref(), flags).unwrap_err()).contains("pipe"));
    }
    assert!(of(&open_to_look(&pipe).unwrap_err()).contains("pipe"));
}

#[test]
fn file_that_others_can_read_is_closed_and_one_that_they_can_write_is_refused() {
    let (_room, dir) = fresh();
    let file = dir.path().join("anchor");
    fs::write(&file, "").unwrap();
    set(&file, 0o644);
    dir.open_file("anchor".as_ref(), OFlags::RDWR).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    for mode in [0o620, 0o602, 0o666] {
        set(&file, mode);
        let refused = of(&dir.open_file("anchor".as_ref(), OFlags::RDWR).unwrap_err());
        assert!(refused.contains("chmod go-w"), "{refused}");
    }
}

#[cfg_attr(not(any(shuttle, loom)), portcullis_testkit::needs("root: test $(id -u) = 0"))]
#[test]
fn entries_of_another_user_are_refused() {
    let (room, dir) = fresh();
    let file = dir.path().join("anchor");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
    let refused = of(&dir.open_file("anchor".as_ref(), OFlags::RDWR).unwrap_err());
    assert!(refused.contains("another user (12345)") && refused.contains("chown"), "{refused}");
    std::os::unix::fs::chown(room.path(), Some(12_345), None).unwrap();
    let refused = of(&Dir::open(dir.path()).err().unwrap());
    assert!(refused.starts_with(&room.path().display().to_string()), "{refused}");
}
