//! What each error is to its caller.

use super::*;

#[test]
fn a_full_disk_is_unavailable_and_says_so() {
    let error = Error::file("write", "/volume/file", io::Error::from_raw_os_error(28));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "could not write /volume/file");
    assert!(error.remedy().unwrap().contains("free some space"));
    assert_eq!(error.causes().len(), 1);
}

#[test]
fn a_disk_that_fails_may_work_later_and_a_permission_does_not() {
    // Linux' numbers, each told to the user with what to do.
    for (number, kind) in [
        (1, ErrorKind::Denied),
        (2, ErrorKind::NotFound),
        (5, ErrorKind::Unavailable),
        (6, ErrorKind::Unavailable),
        (12, ErrorKind::Unavailable),
        (13, ErrorKind::Denied),
        (19, ErrorKind::Unavailable),
        (20, ErrorKind::Invalid),
        (23, ErrorKind::Unavailable),
        (24, ErrorKind::Unavailable),
        (28, ErrorKind::Unavailable),
        (30, ErrorKind::Unavailable),
        (36, ErrorKind::Invalid),
        (40, ErrorKind::Invalid),
        (110, ErrorKind::Unavailable),
        (113, ErrorKind::Unavailable),
        (116, ErrorKind::Unavailable),
        (121, ErrorKind::Unavailable),
        (122, ErrorKind::Unavailable),
    ] {
        let error = Error::file("read", "/volume/file", io::Error::from_raw_os_error(number));
        assert_eq!(error.kind(), kind, "{number}: {:?}", error.causes());
        assert!(error.remedy().is_some(), "{number}: {:?}", error.causes());
    }
}

#[test]
fn an_error_from_outside_keeps_its_kind_and_its_own_error() {
    let error = Error::external("the store `Bucket` failed in `get`", ErrorKind::NotFound, "", Said("bucket 7 is gone".into()));
    assert_eq!((error.kind(), error.remedy()), (ErrorKind::NotFound, None));
    assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<Said>()));
    // Also through an error of ours that stands above it.
    let above = Error::NotAllDumped { missing: vec!["shop".into()], made: Vec::new(), source: Box::new(error) };
    assert_eq!(
        (above.kind(), above.causes().join(": ")),
        (ErrorKind::NotFound, "the store `Bucket` failed in `get`: bucket 7 is gone".into())
    );
}

#[test]
fn a_program_error_ends_with_what_the_program_said() {
    let error = Error::Program {
        program: "initdb".into(),
        status: "exit status: 1".into(),
        said: Said("initdb: error: directory exists\n".into()),
        kind: ErrorKind::Conflict,
        remedy: None,
    };
    assert_eq!(error.causes(), ["initdb: error: directory exists"]);
}
