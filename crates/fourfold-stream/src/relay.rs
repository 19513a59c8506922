//! Wakes the subscribers of a shard from within that shard.
//!
//! A shard is a runtime of its own on a thread of its own. Waking a task of another thread costs a lock and a system call *each*;
//! so whoever moves a tail puts the stream into the post of each shard that has cursors on it, whoever has an answer for a task puts its
//! waker there, and the shard is rung once. A committer that moves many streams rings once for all of them ([`Relay::batch`]).
//!
//! The post holds a stream at most once, and at most one waker for each answer that is awaited, so it is bounded by the streams that have
//! cursors and the requests under way.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{Stream, Watch};

/// Which runtime a cursor lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard(pub(crate) u16);

impl Shard {
    /// The number of the shard, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The way from an engine to the shards.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

struct Shared {
    shards: Box<[Mutex<Post>]>,
    /// How many batches are under way: the end of each rings for all.
    batches: AtomicUsize,
}

/// What waits for a shard.
#[derive(Default)]
struct Post {
    moved: Vec<Arc<Stream>>,
    answered: Vec<Waker>,
    /// The shard's task, while it sleeps.
    task: Option<Waker>,
    /// The shard has ended, and with it everybody who could be woken.
    ended: bool,
}

/// The receiving end: run one on each shard.
#[derive(Debug)]
pub struct RelayTask {
    shard: Shard,
    relay: Relay,
}

/// Nobody is rung until this or another one is dropped; then each shard is, once, that has post.
#[must_use = "dropped at once, it holds nothing back"]
#[derive(Debug)]
pub struct Held(Relay);

impl Relay {
    /// A relay to so many shards (at least one), and the task of each.
    #[must_use]
    pub fn new(shards: u16) -> (Self, Vec<RelayTask>) {
        let shards = shards.max(1);
        let posts = (0..shards).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared { shards: posts, batches: AtomicUsize::new(0) });
        let relay = Self { shared, watch: Arc::default() };
        let tasks = (0..shards).map(|index| RelayTask { shard: Shard(index), relay: relay.clone() }).collect();
        (relay, tasks)
    }

    /// Holds the bell until the guard is dropped, for a committer that has much to tell.
    pub fn batch(&self) -> Held {
        self.shared.batches.fetch_add(1, SeqCst);
        Held(self.clone())
    }

    /// The same future, for a task of `shard` that waits for another thread: woken through the shard's post. Cancel-safe if the future is.
    pub async fn answer<F: Future + Unpin>(&self, shard: Shard, mut future: F) -> F::Output {
        let mut bell: Option<(Waker, Waker)> = None;
        poll_fn(|cx| {
            let through = match &mut bell {
                Some((task, through)) if task.will_wake(cx.waker()) => through,
                stale => {
                    let task = cx.waker().clone();
                    let through = Arc::new(Through { relay: self.clone(), shard, task: task.clone() }).into();
                    &mut stale.insert((task, through)).1
                }
            };
            Pin::new(&mut future).poll(&mut Context::from_waker(through))
        })
        .await
    }

    pub(crate) fn shards(&self) -> usize {
        self.shared.shards.len()
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(crate) fn send(&self, shard: usize, stream: Arc<Stream>) {
        self.put(shard, |post| post.moved.push(stream));
    }

    fn put(&self, shard: usize, put: impl FnOnce(&mut Post)) {
        let mut post = self.post(shard);
        if post.ended {
            return;
        }
        put(&mut post);
        if self.shared.batches.load(SeqCst) == 0 {
            let task = post.task.take();
            drop(post);
            if let Some(task) = task {
                task.wake();
            }
        }
    }

    fn post(&self, shard: usize) -> MutexGuard<'_, Post> {
        self.shared.shards[shard].lock().expect("no code panics while it holds a shard's post")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Self(relay) = self;
        // Also if another batch is under way: those of several committers may overlap without an end.
        relay.shared.batches.fetch_sub(1, SeqCst);
        for shard in 0..relay.shards() {
            let mut post = relay.post(shard);
            if !(post.moved.is_empty() && post.answered.is_empty()) {
                let task = post.task.take();
                drop(post);
                if let Some(task) = task {
                    task.wake();
                }
            }
        }
    }
}

impl RelayTask {
    /// The shard that this task serves.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Wakes the shard's tasks for as long as the shard runs.
    pub async fn run(self) {
        let (mut moved, mut answered) = (Vec::new(), Vec::new());
        poll_fn(|cx| {
            self.collect(&mut moved, &mut answered);
            // What has moved first: who has appended shall not see the answer long before the others see the record.
            for stream in moved.drain(..) {
                stream.wake_shard(self.shard);
            }
            answered.drain(..).for_each(Waker::wake);
            self.rest(cx);
            Poll::Pending
        })
        .await
    }

    fn collect(&self, moved: &mut Vec<Arc<Stream>>, answered: &mut Vec<Waker>) {
        let mut post = self.relay.post(self.shard.index());
        // Swapped, so that both sides keep their room.
        std::mem::swap(&mut post.moved, moved);
        std::mem::swap(&mut post.answered, answered);
    }

    /// Until there is post. If there is some already, those who were woken run first: post that never ends must not keep them from it.
    fn rest(&self, cx: &Context<'_>) {
        let mut post = self.relay.post(self.shard.index());
        if post.moved.is_empty() && post.answered.is_empty() {
            post.task = Some(cx.waker().clone());
        } else {
            drop(post);
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for RelayTask {
    fn drop(&mut self) {
        // The streams could wake nobody, and left in the post they would point back to here for ever.
        let Post { moved, answered, .. } =
            std::mem::replace(&mut *self.relay.post(self.shard.index()), Post { ended: true, ..Post::default() });
        drop(moved);
        answered.into_iter().for_each(Waker::wake); // Whoever waits elsewhere has an answer.
    }
}

/// The waker of a task that is woken through its shard's post.
struct Through {
    relay: Relay,
    shard: Shard,
    task: Waker,
}

impl Wake for Through {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut late = Some(self.task.clone());
        self.relay.put(self.shard.index(), |post| post.answered.extend(late.take()));
        if let Some(task) = late {
            task.wake(); // The shard has ended, or never ran: whoever waits is elsewhere.
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("shards", &self.shards()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, thread};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn once<F: Future>(future: Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
    }

    #[test]
    fn a_batch_of_answers_rings_the_shard_once_and_wakes_everybody() {
        let (relay, mut tasks) = Relay::new(1);
        let (shard, caller) = (Arc::<Bell>::default(), Arc::<Bell>::default());
        let task = tasks.pop().unwrap();
        let number = task.shard();
        let mut task = pin!(task.run());
        assert!(once(task.as_mut(), &shard).is_pending());
        let (tell, mut answers): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (tell, told) = oneshot::channel::<()>();
                (tell, Box::pin(relay.answer(number, told)))
            })
            .unzip();
        assert!(answers.iter_mut().all(|answer| once(answer.as_mut(), &caller).is_pending()));
        let other = relay.clone();
        thread::spawn(move || {
            let _held = other.batch();
            tell.into_iter().for_each(|tell| tell.send(()).unwrap());
        })
        .join()
        .unwrap();
        assert_eq!((shard.0.load(SeqCst), caller.0.load(SeqCst)), (1, 0), "told through the post");
        assert!(once(task.as_mut(), &shard).is_pending());
        assert_eq!(caller.0.load(SeqCst), 3);
        assert!(answers.iter_mut().all(|answer| once(answer.as_mut(), &caller).is_ready()));
    }

    #[test]
    fn an_answer_that_came_before_the_shard_ended_is_not_lost_with_it() {
        let (relay, mut tasks) = Relay::new(1);
        let task = tasks.pop().unwrap();
        let (tell, told) = oneshot::channel::<()>();
        let mut answer = pin!(relay.answer(task.shard(), told));
        let caller = Arc::<Bell>::default();
        assert!(once(answer.as_mut(), &caller).is_pending());
        tell.send(()).unwrap();
        assert_eq!(caller.0.load(SeqCst), 0, "it waits for the shard");
        drop(task);
        assert_eq!(caller.0.load(SeqCst), 1);
    }

    #[test]
    fn a_batch_that_ends_in_a_panic_rings() {
        let (relay, mut tasks) = Relay::new(1);
        let (shard, caller) = (Arc::<Bell>::default(), Arc::<Bell>::default());
        let mut task = pin!(tasks.pop().unwrap().run());
        assert!(once(task.as_mut(), &shard).is_pending());
        let committer = thread::spawn(move || {
            let _held = relay.batch();
            relay.put(0, |post| post.answered.push(caller.into()));
            panic!("for the test");
        });
        assert!(committer.join().is_err());
        assert_eq!(shard.0.load(SeqCst), 1);
    }

    /// Whoever is woken by it finds post for the shard again.
    struct Restless {
        relay: Relay,
        woken: AtomicUsize,
    }

    impl Wake for Restless {
        fn wake(self: Arc<Self>) {
            if self.woken.fetch_add(1, SeqCst) < 1_000 {
                self.relay.put(0, |post| post.answered.push(Arc::clone(&self).into()));
            }
        }
    }

    #[test]
    fn post_that_never_ends_does_not_keep_the_shard_from_its_other_tasks() {
        let (relay, mut tasks) = Relay::new(1);
        let restless = Arc::new(Restless { relay, woken: AtomicUsize::new(0) });
        Arc::clone(&restless).wake();
        let mut task = pin!(tasks.pop().unwrap().run());
        let shard = Arc::<Bell>::default();
        for round in 1..10 {
            assert!(once(task.as_mut(), &shard).is_pending());
            assert_eq!((restless.woken.load(SeqCst), shard.0.load(SeqCst)), (1 + round, round), "one round a turn");
        }
    }

    #[test]
    fn batches_that_overlap_do_not_put_off_the_bell_for_ever() {
        let (relay, mut tasks) = Relay::new(1);
        let (shard, caller) = (Arc::<Bell>::default(), Arc::<Bell>::default());
        let mut task = pin!(tasks.pop().unwrap().run());
        assert!(once(task.as_mut(), &shard).is_pending());
        let first = relay.batch();
        relay.put(0, |post| post.answered.push(Arc::clone(&caller).into()));
        let _second = relay.batch();
        drop(first);
        assert_eq!(shard.0.load(SeqCst), 1);
    }

    #[test]
    fn an_answer_wakes_its_task_also_when_the_shard_has_ended() {
        let (relay, mut tasks) = Relay::new(1);
        let number = tasks.pop().unwrap().shard(); // And dropped.
        let (tell, told) = oneshot::channel::<()>();
        let mut answer = pin!(relay.answer(number, told));
        let caller = Arc::<Bell>::default();
        assert!(once(answer.as_mut(), &caller).is_pending());
        tell.send(()).unwrap();
        assert_eq!(caller.0.load(SeqCst), 1);
    }
}
