//! The campaign of damaged copies.

use super::*;

/// A store with three earlier states.
struct StoreWithHistory {
    fixture: TestStore,
    /// The anchor, if it is outside of the data directory.
    anchor_path: Option<PathBuf>,
    older: Vec<PathBuf>,
}

impl StoreWithHistory {
    fn new(has_external_anchor: bool) -> Self {
        Self::of(TestStore::with_keys(40), has_external_anchor)
    }

    fn of(mut fixture: TestStore, has_external_anchor: bool) -> Self {
        let anchor_path = has_external_anchor.then(|| fixture.dir.path().join("kept.anchor"));
        if let Some(anchor_path) = &anchor_path {
            fs::rename(anchor(&fixture.home), anchor_path).unwrap();
        }
        let mut older = Vec::new();
        for age in 0..3 {
            older.push(fixture.copy(&format!("older {age}")));
            let builder = portcullis_testkit::builder();
            let builder = match &anchor_path {
                Some(anchor_path) => builder.anchor(anchor_path),
                None => builder,
            };
            let store = builder.open_existing(&fixture.home).unwrap();
            for n in 0..10 {
                issue(&store, new_key(&store, &format!("later {age}-{n}"), &["api.read"]));
            }
            // The older records of these keys permit more than the new ones.
            let (id, _, refusal) =
                fixture.keys.iter_mut().filter(|key| key.2.is_none()).nth(age + 1).unwrap();
            store.revoke(*id).unwrap();
            *refusal = Some(Refusal::Inactive);
            fixture.records = records(&store);
            fixture.audit = store.audit(0, usize::MAX).unwrap();
        }
        Self { fixture, anchor_path, older }
    }
}

#[derive(Default)]
struct Outcomes {
    copies: usize,
    damaged: usize,
    rolled_back: usize,
    audit_damaged: usize,
    intact: usize,
    undetected: usize,
}

#[test]
fn many_damaged_copies_are_refused_or_intact() {
    let copies = number("PORTCULLIS_DAMAGES", 300);
    let time_limit = if copies > 300 { Duration::MAX } else { Duration::from_secs(15) };
    let (within, elsewhere, with_long_log) = (
        StoreWithHistory::new(false),
        StoreWithHistory::new(true),
        StoreWithHistory::of(TestStore::with_long_audit_log(), false),
    );
    let began = Instant::now();
    let mut kinds: BTreeMap<DamageKind, Outcomes> = BTreeMap::new();
    for number in (0..copies)
        .take_while(|number| *number < DamageKind::ROUND.len() || began.elapsed() < time_limit)
    {
        let mut chance = seeded(number);
        let damage = DamageKind::ROUND[number % DamageKind::ROUND.len()];
        let past = if damage == DamageKind::OlderDirectory || chance.below(4) == 0 {
            &elsewhere
        } else if chance.below(2) == 0 {
            &with_long_log
        } else {
            &within
        };
        let home = past.fixture.copy("copy");
        let description =
            format!("copy {number}, {}", damage.apply(&home, &past.older, &mut chance));
        // Opening moves the anchor's slots, so each copy has its own.
        let anchor_path = past.anchor_path.as_ref().map(|anchor_path| {
            let own = anchor_path.with_extension("copy");
            fs::copy(anchor_path, &own).unwrap();
            own
        });
        let outcomes = kinds.entry(damage).or_default();
        outcomes.copies += 1;
        let opening = Instant::now();
        let look = || {
            past.fixture
                .check_keys(&home, anchor_path.as_deref())
                .map(|store| past.fixture.check_audit(&store))
        };
        match catch_unwind(AssertUnwindSafe(look)) {
            Ok(Ok(Ok(()))) if !damage.is_always_detected() => outcomes.intact += 1,
            // Opening does not read old entries of the audit log; reading them reports the damage.
            Ok(Ok(Err(error @ Error::Damaged(_)))) if !damage.is_always_detected() => {
                assert!(error.to_string().contains("restore"), "{description}: {error}");
                outcomes.audit_damaged += 1;
            }
            Ok(Err(error @ (Error::Damaged(_) | Error::RolledBack { .. }))) => {
                // The error contains the remedy.
                assert!(error.to_string().contains("restore"), "{description}: {error}");
                let right = damage != DamageKind::OlderDirectory
                    || matches!(error, Error::RolledBack { .. });
                assert!(right, "{description}: {error}");
                match error {
                    Error::Damaged(_) => outcomes.damaged += 1,
                    _ => outcomes.rolled_back += 1,
                }
            }
            Ok(Err(other) | Ok(Err(other))) => panic!("{description}: {other:?}"),
            Ok(Ok(Ok(()))) | Err(_) => {
                println!("{description}: it opened without an error, or it panicked");
                outcomes.undetected += 1;
            }
        }
        assert!(opening.elapsed() < Duration::from_secs(10), "{description}: it took too long");
        fs::remove_dir_all(&home).unwrap();
    }
    let sum = |part: fn(&Outcomes) -> usize| kinds.values().map(part).sum::<usize>();
    let (tried, intact, undetected) = (sum(|o| o.copies), sum(|o| o.intact), sum(|o| o.undetected));
    let by_kind: Vec<_> =
        kinds.iter().map(|(damage, o)| format!("{damage:?} {}", grouped(o.copies))).collect();
    println!(
        "damage: {} copies, {} refused as damaged, {} as rolled back, {} with intact keys and an audit log \
         refused as damaged, {} intact, {undetected} undetected ({})",
        grouped(tried),
        grouped(sum(|o| o.damaged)),
        grouped(sum(|o| o.rolled_back)),
        grouped(sum(|o| o.audit_damaged)),
        grouped(intact),
        by_kind.join(", "),
    );
    assert_eq!(undetected, 0);
    assert!(kinds.len() == 12 && intact > 0, "the campaign was too short");
}
