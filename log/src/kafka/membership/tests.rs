//! A member's thread, step by step, where nobody answers.

use super::wishes::take;
use super::*;

/// Nobody answers there.
fn seat() -> (Member, Seat) {
    let settings = Arc::new(KafkaSettings::new("127.0.0.1:1"));
    let topic = "millstream.t".parse().unwrap();
    let (member, seat, _) = Member::sit_down(&settings, &topic, "t").unwrap();
    (member, seat)
}

fn assigned(seat: &Seat) -> Vec<i32> {
    let mut assigned: Vec<_> =
        seat.consumer.assignment().unwrap().elements().iter().map(|one| one.partition()).collect();
    assigned.sort_unstable();
    assigned
}

#[test]
fn what_is_asked_back_first_is_given_up_before_more_is_withheld() {
    let (_member, mut seat) = seat();
    let mut all = list(&seat.topic, &[0, 1, 2]);
    take(&seat.consumer, &mut all).unwrap();
    seat.grant(Wish::Took(vec![0, 1, 2]));
    seat.grant(Wish::GiveUp(vec![0]));
    assert_eq!(assigned(&seat), [0, 1, 2], "its holder has not let go");
    seat.grant(Wish::GiveUp(vec![1]));
    assert_eq!(assigned(&seat), [1, 2]);
    seat.give_up();
    assert_eq!(assigned(&seat), [2]);
}

#[test]
fn a_member_that_leaves_gives_up_what_its_holder_has_not_let_go() {
    let (member, mut seat) = seat();
    take(&seat.consumer, &mut list(&seat.topic, &[0, 1])).unwrap();
    seat.grant(Wish::Took(vec![0, 1]));
    seat.grant(Wish::GiveUp(vec![0, 1]));
    drop(member);
    seat.run();
    assert_eq!(assigned(&seat), [0; 0]);
}

#[tokio::test]
async fn who_is_counted_in_no_more_hears_so_and_then_what_it_is_dealt_be_it_nothing() {
    let (mut member, mut seat) = seat();
    let mut share = async |seat: &mut Seat, wish| {
        seat.grant(wish);
        let share = tokio::time::timeout(Duration::from_secs(60), member.next()).await.unwrap().unwrap();
        (share.partitions.len(), share.is_dealt)
    };
    assert_eq!(share(&mut seat, Wish::Took(vec![0, 1])).await, (2, true));
    assert_eq!(share(&mut seat, Wish::Lost(vec![0, 1])).await, (0, false));
    assert_eq!(share(&mut seat, Wish::Took(vec![])).await, (0, true));
    assert_eq!(share(&mut seat, Wish::Took(vec![1])).await, (1, true));
}

#[tokio::test]
async fn a_member_that_lost_all_brokers_hears_of_it() {
    let (mut member, mut seat) = seat();
    seat.consumer.context().voice.strand();
    let thread = thread::spawn(move || seat.run());
    let heard = tokio::time::timeout(Duration::from_secs(60), member.next()).await.unwrap();
    assert!(matches!(heard, Err(LogError::Unreachable { .. })), "{heard:?}");
    drop(member);
    thread.join().unwrap();
}

#[test]
fn members_leave_at_the_same_time() {
    let endings: Arc<[Arc<AtomicBool>; 2]> = Arc::default();
    let chair = |ending: &Arc<AtomicBool>| {
        let (left_in, left) = mpsc::channel::<Infallible>();
        let all = Arc::clone(&endings);
        // Neither can leave before the other is told to.
        let leave = move || {
            while !all.iter().all(|ending| ending.load(Ordering::SeqCst)) {
                thread::yield_now();
            }
            drop(left_in);
        };
        Chair { ending: Arc::clone(ending), thread: thread::spawn(leave), left }
    };
    let chairs = endings.iter().map(chair).collect();
    assert_eq!(Chair::leave(chairs, Duration::from_secs(30)), 0);
}

#[test]
fn a_member_that_does_not_leave_is_not_waited_for_for_ever() {
    let (left_in, left) = mpsc::channel::<Infallible>();
    let ending = Arc::new(AtomicBool::new(false));
    let chair = Chair { ending, thread: thread::spawn(|| {}), left };
    assert_eq!(Chair::leave(vec![chair], Duration::from_millis(10)), 1);
    drop(left_in);
}
