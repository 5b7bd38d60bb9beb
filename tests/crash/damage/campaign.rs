//! The campaign of damaged copies.

use super::*;

/// A store with three earlier states of it.
struct Past {
    house: House,
    /// The anchor, where it is kept elsewhere.
    kept: Option<PathBuf>,
    older: Vec<PathBuf>,
}

impl Past {
    fn new(anchor_elsewhere: bool) -> Self {
        Self::of(House::with_keys(40), anchor_elsewhere)
    }

    fn of(mut house: House, anchor_elsewhere: bool) -> Self {
        let kept = anchor_elsewhere.then(|| house.dir.path().join("kept.anchor"));
        if let Some(kept) = &kept {
            fs::rename(anchor(&house.home), kept).unwrap();
        }
        let mut older = Vec::new();
        for age in 0..3 {
            older.push(house.copy(&format!("older {age}")));
            let builder = Store::builder();
            let builder = match &kept {
                Some(kept) => builder.anchor(kept),
                None => builder,
            };
            let store = builder.open_existing(&house.home).unwrap();
            for n in 0..10 {
                issue(&store, new_key(&store, &format!("later {age}-{n}"), &["api.read"]));
            }
            // Old records of these keys exist, and let pass what the new ones do not.
            let (id, _, refusal) =
                house.keys.iter_mut().filter(|key| key.2.is_none()).nth(age + 1).unwrap();
            store.revoke(*id).unwrap();
            *refusal = Some(Refusal::Inactive);
            house.records = records(&store);
            house.trail = store.audit(0, usize::MAX).unwrap();
        }
        Self { house, kept, older }
    }
}

#[derive(Default)]
struct Outcomes {
    copies: usize,
    damaged: usize,
    rolled_back: usize,
    trail_damaged: usize,
    whole: usize,
    silent: usize,
}

#[test]
fn many_damaged_copies_are_refused_or_whole() {
    let copies = number("PORTCULLIS_DAMAGES", 300);
    let patience = if copies > 300 { Duration::MAX } else { Duration::from_secs(15) };
    let (within, elsewhere, lived) =
        (Past::new(false), Past::new(true), Past::of(House::lived(), false));
    let began = Instant::now();
    let mut kinds: BTreeMap<Wound, Outcomes> = BTreeMap::new();
    for number in
        (0..copies).take_while(|number| *number < Wound::ROUND.len() || began.elapsed() < patience)
    {
        let mut chance = seeded(number);
        let wound = Wound::ROUND[number % Wound::ROUND.len()];
        let past = if wound == Wound::OlderDirectory || chance.below(4) == 0 {
            &elsewhere
        } else if chance.below(2) == 0 {
            &lived
        } else {
            &within
        };
        let home = past.house.copy("copy");
        let told = format!("copy {number}, {}", wound.inflict(&home, &past.older, &mut chance));
        // Opening moves the anchor's slots, so each copy has its own.
        let kept = past.kept.as_ref().map(|kept| {
            let own = kept.with_extension("copy");
            fs::copy(kept, &own).unwrap();
            own
        });
        let outcomes = kinds.entry(wound).or_default();
        outcomes.copies += 1;
        let opening = Instant::now();
        let look = || {
            past.house
                .look_at_keys(&home, kept.as_deref())
                .map(|store| past.house.look_at_trail(&store))
        };
        match catch_unwind(AssertUnwindSafe(look)) {
            Ok(Ok(Ok(()))) if !wound.is_always_seen() => outcomes.whole += 1,
            // What opening does not read of an old trail is seen by whoever reads it.
            Ok(Ok(Err(error @ Error::Damaged(_)))) if !wound.is_always_seen() => {
                assert!(error.to_string().contains("restore"), "{told}: {error}");
                outcomes.trail_damaged += 1;
            }
            Ok(Err(error @ (Error::Damaged(_) | Error::RolledBack { .. }))) => {
                // It says what to do.
                assert!(error.to_string().contains("restore"), "{told}: {error}");
                let right =
                    wound != Wound::OlderDirectory || matches!(error, Error::RolledBack { .. });
                assert!(right, "{told}: {error}");
                match error {
                    Error::Damaged(_) => outcomes.damaged += 1,
                    _ => outcomes.rolled_back += 1,
                }
            }
            Ok(Err(other) | Ok(Err(other))) => panic!("{told}: {other:?}"),
            Ok(Ok(Ok(()))) | Err(_) => {
                println!("{told}: it opened and nothing was said, or it panicked");
                outcomes.silent += 1;
            }
        }
        assert!(opening.elapsed() < Duration::from_secs(10), "{told}: it took too long");
        fs::remove_dir_all(&home).unwrap();
    }
    let sum = |part: fn(&Outcomes) -> usize| kinds.values().map(part).sum::<usize>();
    let (tried, whole, silent) = (sum(|o| o.copies), sum(|o| o.whole), sum(|o| o.silent));
    let by_kind: Vec<_> =
        kinds.iter().map(|(wound, o)| format!("{wound:?} {}", grouped(o.copies))).collect();
    println!(
        "damage: {} copies, {} refused as damaged, {} as rolled back, {} with whole keys and a trail \
         refused as damaged, {} whole, {silent} silent ({})",
        grouped(tried),
        grouped(sum(|o| o.damaged)),
        grouped(sum(|o| o.rolled_back)),
        grouped(sum(|o| o.trail_damaged)),
        grouped(whole),
        by_kind.join(", "),
    );
    assert_eq!(silent, 0);
    assert!(kinds.len() == 12 && whole > 0, "the campaign was too short");
}
