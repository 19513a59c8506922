//! What is typed wrong is refused before anything is sent.

use crate::harness::fourfold;

#[test]
fn an_address_that_cannot_work_is_one_line() {
    let finished = fourfold(&["tail", "a", "--url", "ftp://127.0.0.1"]).finish();
    assert!(finished.failed().contains("'ftp://127.0.0.1' is not a server's URL"));
    assert_eq!(finished.code, Some(2));
    let finished = fourfold(&["append", "a//b"]).finish();
    assert!(finished.failed().contains("'a//b' is not a stream"));
}

#[test]
fn a_server_that_is_not_there_is_given_up_in_the_time_asked_for() {
    // Port 1 is below the range that the system hands out, and nothing of ours listens there.
    let url = "http://127.0.0.1:1";
    let finished = fourfold(&["append", "a", "--url", url, "--retry-for", "0s"]).finish();
    assert!(finished.failed().contains("gave up on http://127.0.0.1:1"));
    let finished = fourfold(&["tail", "a", "--url", url, "--retry-for", "0s"]).finish();
    assert!(finished.failed().contains("go on with --offset now"));
}

#[test]
fn a_setting_that_means_nothing_is_one_line() {
    let finished = fourfold(&["serve", "--long-poll-timeout", "20"]).finish();
    assert!(finished.failed().contains("--long-poll-timeout: '20' is not a duration"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fourfold.toml");
    std::fs::write(&file, "engine = 'memory'\nlissten = 'x'\n").unwrap();
    let finished = fourfold(&["serve", "--config", file.to_str().unwrap()]).finish();
    assert!(finished.failed().contains("line 2: unknown key 'lissten'; the keys are listen, "));
    assert_eq!(finished.code, Some(2));
}
