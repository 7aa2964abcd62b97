use proptest::prelude::*;

use super::*;

const JOIN: Settings = Settings { within: Duration::from_secs(3), at_most: Duration::from_secs(15) };

fn line(sequence: u64, stored_at_ms: i64) -> Line {
    Line {
        sequence,
        stored_at_ms,
        sent_at_ms: 0,
        sender: "ana".into(),
        bytes: 10,
        id: format!("m{sequence}"),
    }
}

/// Where the burst ends that begins with the first of these.
fn ends(lines: &[Option<Line>]) -> (u64, Walk) {
    let mut lines = lines.iter();
    let mut walk = Walk::new(JOIN, lines.next().cloned().flatten().expect("a text"));
    for line in lines {
        if !walk.takes(line.clone()) {
            break;
        }
    }
    (walk.burst().map_or(walk.first.sequence, |(burst, _)| burst.into), walk)
}

#[test]
fn each_text_comes_within_the_time_of_the_last_and_the_last_within_that_of_the_first() {
    let sent = |line: Line, sent_at_ms| Line { sent_at_ms, ..line };
    let of = |line: Line, sender: &str| Line { sender: sender.into(), ..line };
    let long = |line: Line, bytes| Line { bytes, ..line };
    let rows: [(&str, Vec<Option<Line>>, u64); 14] = [
        ("alone", vec![Some(line(4, 0))], 4),
        ("three", vec![Some(line(4, 0)), Some(line(6, 3_000)), Some(line(7, 6_000))], 7),
        ("too late", vec![Some(line(4, 0)), Some(line(6, 3_001))], 4),
        ("at once", vec![Some(line(4, 0)), Some(line(6, 0))], 6),
        ("another clock leads the stream", vec![Some(line(4, 9_000)), Some(line(6, 0))], 6),
        ("a picture between", vec![Some(line(4, 0)), None, Some(line(7, 100))], 4),
        ("somebody else", vec![Some(line(4, 0)), Some(of(line(6, 1), "leo")), Some(line(7, 2))], 4),
        (
            "fifteen seconds in all",
            (0_u16..9).map(|at| Some(line(u64::from(at) + 1, i64::from(at) * 2_500))).collect(),
            7,
        ),
        (
            "written over hours and stored at once",
            vec![Some(sent(line(4, 0), 10_000)), Some(sent(line(6, 5), 3_610_000))],
            4,
        ),
        (
            "written three seconds apart, to the second",
            vec![Some(sent(line(4, 0), 10_000)), Some(sent(line(6, 5), 14_000))],
            6,
        ),
        ("it is not known when", vec![Some(sent(line(4, 0), 10_000)), Some(line(6, 5))], 6),
        ("as much as a message has", vec![Some(long(line(4, 0), 40_000)), Some(long(line(6, 5), 25_535))], 6),
        ("more than that", vec![Some(long(line(4, 0), 40_000)), Some(long(line(6, 5), 25_536))], 4),
        ("a crowd", (1..=100).map(|at| Some(line(at, 0))).collect(), 64),
    ];
    for (name, lines, want) in rows {
        assert_eq!(ends(&lines).0, want, "{name}");
    }
}

#[test]
fn a_burst_has_ended_when_by_the_servers_clock_nothing_can_join_any_more() {
    let walk = |lines: &[Option<Line>]| ends(lines).1;
    let ms = |ms| Some(Duration::from_millis(ms));
    let two = walk(&[Some(line(4, 1_000)), Some(line(6, 2_000))]);
    // What was stored in the last moment is readable a moment later.
    for (now, want) in [(2_000, ms(3_051)), (5_000, ms(51)), (5_050, ms(1)), (5_051, None), (i64::MAX, None)]
    {
        assert_eq!(two.wait(now), want, "at {now}");
    }
    let many: Vec<_> = (0..7).map(|at| Some(line(at + 1, i64::try_from(at).unwrap() * 2_400))).collect();
    assert_eq!(
        walk(&many).wait(14_400),
        ms(651),
        "fifteen seconds after the first, and not three after the last"
    );
    let crowd: Vec<_> = (1..=100).map(|at| Some(line(at, 0))).collect();
    assert_eq!(walk(&crowd).wait(0), None, "it is full");
}

#[test]
fn an_outcome_says_what_its_message_went_into() {
    let read = |value: &str| Burst::read(&Headers::from_iter([(header::JOINED, value)]));
    let burst = Burst { first: 7, into: 12 };
    assert_eq!(read(&burst.header()), Some(burst));
    for nonsense in ["", "7", "7-", "-7", "12-7", "7-7", "0-7", "7-12-13", "seven-12"] {
        assert_eq!(read(nonsense), None, "{nonsense}");
    }
    assert_eq!(Burst::read(&Headers::default()), None);
}

#[test]
fn the_last_outcome_says_what_becomes_of_a_message() {
    let burst = Burst { first: 4, into: 9 };
    for (sequence, last, want, first) in [
        (4, None, Share::Open, 4),
        (5, Some(burst), Share::Joins(burst), 5),
        (9, Some(burst), Share::Ends { first: 4 }, 4),
        // The one that was to be asked about is gone.
        (11, Some(burst), Share::Ends { first: 4 }, 4),
    ] {
        let share = share(sequence, last);
        assert_eq!((share, share.first(sequence)), (want, first), "{sequence} {last:?}");
    }
}

proptest! {
    /// Whenever somebody looks, and however often: if it has ended, it has ended where it ends for one who comes when all
    /// is over.
    #[test]
    fn whoever_looks_sees_the_same_burst(
        gaps in proptest::collection::vec((0_i64..4_500, 0_u8..12), 1..40),
        looks in proptest::collection::vec(0_i64..2_000, 1..60),
    ) {
        let mut at = 0;
        let lines: Vec<(i64, Option<Line>)> = gaps.iter().enumerate().map(|(number, (gap, kind))| {
            at += gap;
            let text = line(u64::try_from(number).unwrap() + 1, at);
            (at, (number == 0 || *kind > 0).then_some(text))
        }).collect();
        let all: Vec<_> = lines.iter().map(|(_, line)| line.clone()).collect();
        let (want, _) = ends(&all);
        let (mut now, mut seen) = (lines[0].0, 1);
        let mut walk = Walk::new(JOIN, all[0].clone().unwrap());
        let mut ended = None;
        for look in looks {
            now += look;
            while ended.is_none() && seen < lines.len() && lines[seen].0 <= now {
                if !walk.takes(all[seen].clone()) {
                    ended = Some(seen);
                }
                seen += 1;
            }
            if ended.is_some() || walk.wait(now).is_none() {
                let into = walk.burst().map_or(1, |(burst, _)| burst.into);
                prop_assert_eq!(into, want);
                break;
            }
        }
    }
}
