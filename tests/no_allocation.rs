//! Authentication allocates nothing, whatever the outcome. So no request can make the process use
//! more memory, and no authentication waits for the allocator.

use allocation_counter::measure;
use portcullis::{Expiry, Network, Refusal, Timestamp, scope::catalogue};
use portcullis_testkit::{basic, issue, new_key};
use std::hint::black_box;

const KEYS: usize = 10_000;

#[test]
fn authentication_allocates_nothing() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let issue = |new| basic(&issue(&store, new).1);
    let good = || new_key(&store, "good", &["api.read"]);
    let accepted: Vec<String> = (0..KEYS).map(|_| issue(good())).collect();
    let other = portcullis_testkit::builder().in_memory().unwrap();
    let unknown =
        basic(&portcullis_testkit::issue(&other, new_key(&other, "of another store", &[])).1);
    let expiry = |secs| Expiry::At(Timestamp::from_secs(secs));
    let networks = ["192.0.2.0/24".parse::<Network>().unwrap()];
    let bound = good().with_networks(networks.into_iter().collect());
    let decisions: [(&str, Vec<String>, Option<Refusal>); 8] = [
        ("accepted", accepted, None),
        (
            "accepted before its expiry",
            vec![issue(good().with_expiry(expiry(9_000_000_000)))],
            None,
        ),
        ("accepted within its rate", vec![issue(good().with_rate("9/1h".parse().unwrap()))], None),
        ("outside of its networks", vec![issue(bound)], Some(Refusal::Network)),
        ("unknown", vec![unknown, basic(b"nobody")], Some(Refusal::Unknown)),
        ("inactive", vec![issue(good().with_active(false))], Some(Refusal::Inactive)),
        ("expired", vec![issue(good().with_expiry(expiry(1)))], Some(Refusal::Expired)),
        (
            "malformed",
            ["", "Basic", "Basic !", "Bearer x", "Basic Og==", &"x".repeat(2000)]
                .map(str::to_owned)
                .to_vec(),
            Some(Refusal::Malformed),
        ),
    ];
    // The first authentication of a thread assigns a stripe of the index to it.
    store.authenticate_header(b"").unwrap_err();
    for (name, headers, refusal) in &decisions {
        let mut wrong = 0;
        let allocations = measure(|| {
            for header in headers {
                let decision = store.authenticate([black_box(header.as_bytes())].into_iter());
                wrong += usize::from(decision.as_ref().err() != refusal.as_ref());
                if let Ok(principal) = decision {
                    wrong += usize::from(principal.require(&catalogue::API_READ).is_err());
                    wrong += usize::from(principal.require(&catalogue::API_WRITE).is_ok());
                }
            }
        });
        assert!(!headers.is_empty());
        assert_eq!((wrong, allocations.count_total), (0, 0), "{name}");
    }
    let allocations = measure(|| {
        assert_eq!(store.authenticate(std::iter::empty::<&[u8]>()).unwrap_err(), Refusal::Missing);
        assert_eq!(
            store.authenticate([&b""[..], b""].into_iter()).unwrap_err(),
            Refusal::Ambiguous
        );
    });
    assert_eq!(allocations.count_total, 0);
}

#[test]
fn counter_detects_one_allocation() {
    assert_eq!(measure(|| drop(black_box(Box::new(7)))).count_total, 1);
}
