"""Nothing answered twice, nothing lost silently: any program of tells, asks, crashes and stops, in virtual time.

Each message carries a number. After every step each accepted message is in exactly one place: read by the actor,
waiting, or a dead letter (a crash makes a dead letter of one that was read). In the end, when the tree has stopped,
nothing waits, every asker knows, and every `reply_to` was told exactly once.
"""

from typing import ClassVar

import msgspec
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import (
    ActorError,
    Address,
    Child,
    DeadLetters,
    Failed,
    Machine,
    MailboxFull,
    Restart,
    Stop,
    Strategy,
    Supervisor,
    inspect_tree,
)
from core.testing import Probe

CAPACITY = 3
ACTIONS = ("reply", "fail", "ignore", "crash", "reply then crash", "work", "forward", "postpone", "next state")


class Do(msgspec.Struct, frozen=True):
    number: int
    action: str


class DoShed(Do, frozen=True):
    overflow: ClassVar[str] = "drop_oldest"


class Done(msgspec.Struct, frozen=True):
    number: int


class Deliberate(Exception):
    pass


class Audited(Address):
    """Notes the number of each message that got in, by whichever way."""

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.accepted = set()

    def tell(self, msg, **options):
        super().tell(msg, **options)
        if isinstance(msg, Do):
            self.accepted.add(msg.number)

    def _admit(self, env, **options):
        super()._admit(env, **options)
        if isinstance(env.msg, Do):
            self.accepted.add(env.msg.number)


class World:
    """Two actors (one of them a machine), a supervisor, and the books of what was sent and what became of it."""

    def __init__(self, strategy):
        self.letters = DeadLetters(ring=10_000)
        self.plain = Audited("plain", capacity=CAPACITY)
        self.machine = Audited("machine", capacity=CAPACITY)
        self.probe = Probe(capacity=100_000)
        self.next = 0
        self.read = {"plain": [], "machine": []}
        self.died = {"plain": 0, "machine": 0}  # read, and lost in a crash or a cancellation
        self.told_with_reply_to = []
        self.asks = {}
        self.children = {
            "plain": Child(self.plain, self.plain_main, shutdown_s=0.5),
            "machine": Child(self.machine, self.machine_main, Restart.TRANSIENT, shutdown_s=0.5),
        }
        self.tree = Supervisor(
            "tree",
            list(self.children.values()),
            strategy=strategy,
            escalate=False,
            backoff_s=0.2,
            backoff_max_s=1.0,
            dead_letters=self.letters,
        )

    # -- the actors

    async def act(self, me, env, postpone):
        msg = env.msg
        assert env.deadline > trio.current_time(), "read too late"
        if me.name == "plain" or msg.action != "postpone":  # a postponed message is read for good only once
            self.read[me.name].append(msg.number)
        try:
            match msg.action:
                case "reply" | "next state":
                    env.reply(Done(msg.number))
                case "fail":
                    env.fail(Deliberate(msg.number))
                case "crash":
                    raise Deliberate
                case "reply then crash":
                    env.reply(Done(msg.number))
                    env.reply(Done(-1))  # must not arrive
                    if env.wanted or not env.answered:
                        raise AssertionError("answered, yet still wanted")
                    raise Deliberate
                case "work":
                    await trio.sleep(0.7)
                    env.reply(Done(msg.number))
                case "forward":
                    other = self.machine if me is self.plain else self.plain
                    self.tell(other, "reply", reply_to=True)
                    env.reply(Done(msg.number))
                case "postpone" if postpone:
                    postpone(env)
        except BaseException:
            if not env.answered:
                self.died[me.name] += 1
            raise

    async def plain_main(self, me):
        while not isinstance((env := await me.receive()).msg, Stop):
            await self.act(me, env, None)

    async def machine_main(self, me):
        async def state(machine):
            machine.state_timeout(1.5)
            while (env := await machine.event()) is not None:
                if isinstance(env.msg, Stop):
                    return None
                await self.act(me, env, machine.postpone)
                if env.msg.action == "next state":
                    break
            return settle

        async def settle(machine):
            """Drops what was postponed, as a state may: it reads it and ignores it."""
            for _ in range(len(me._replayed)):
                with trio.move_on_after(0):
                    env = await machine.event()
                    if env is None or isinstance(env.msg, Stop):
                        return None
                    self.read[me.name].append(env.msg.number)
            return state

        await Machine(me).run(state)

    # -- the steps

    def message(self, action, shed=False):
        self.next += 1
        return (DoShed if shed else Do)(self.next, action)

    def tell(self, to, action, *, shed=False, system=False, patience_s=None, reply_to=False):
        msg = self.message(action, shed)
        deadline = trio.current_time() + patience_s if patience_s is not None else float("inf")
        try:
            to.tell(msg, system=system, deadline=deadline, reply_to=self.probe if reply_to else None)
        except MailboxFull:
            return
        if reply_to:
            self.told_with_reply_to.append(msg.number)

    async def ask(self, to, action, timeout_s, scope):
        msg = self.message(action)
        self.asks[msg.number] = None
        with scope:
            try:
                answer = await to.ask(msg, timeout_s)
                assert answer == Done(msg.number)
                self.asks[msg.number] = "answered"
            except (ActorError, Deliberate) as error:
                self.asks[msg.number] = type(error).__name__
        if scope.cancelled_caught:
            self.asks[msg.number] = "cancelled"

    def check(self):
        for address in (self.plain, self.machine):
            name = address.name
            lanes = (address._user, address._system, address._postponed, address._replayed)
            waiting = [env.msg.number for lane in lanes for env in lane if isinstance(env.msg, Do)]
            read = self.read[name]
            assert len(set(read)) == len(read), "carried out twice"
            assert not set(waiting) & set(read), "read, and still waiting"
            letters = self.letters.counts.items()
            dead = sum(n for (actor, kind, _), n in letters if actor == name and kind in ("Do", "DoShed"))
            unread = dead - self.died[name]
            assert unread >= 0
            assert len(address.accepted) == len(read) + len(waiting) + unread, "lost silently, or counted twice"
            assert address.accepted >= {*read, *waiting}
            assert len(address._user) <= CAPACITY + 64


step = st.one_of(
    st.tuples(
        st.just("tell"),
        st.sampled_from(["plain", "machine"]),
        st.sampled_from(ACTIONS),
        st.fixed_dictionaries(
            {},
            optional={
                "shed": st.booleans(),
                "system": st.booleans(),
                "patience_s": st.sampled_from([0.0, 0.3, 5.0]),
                "reply_to": st.booleans(),
            },
        ),
    ),
    st.tuples(
        st.just("ask"),
        st.sampled_from(["plain", "machine"]),
        st.sampled_from(ACTIONS),
        st.sampled_from([0.0, 0.4, 3.0]),
    ),
    st.tuples(st.just("cancel an ask")),
    st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.1, 0.5, 2.0])),
    st.tuples(st.just("stop"), st.sampled_from(["plain", "machine"])),
    st.tuples(st.just("start"), st.sampled_from(["plain", "machine"])),
)


async def run_program(strategy, program):
    world = World(strategy)
    scopes = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.tree.run)
        await world.tree.address.wait_ready()
        for number, (kind, *arguments) in enumerate(program):
            match kind:
                case "tell":
                    name, action, options = arguments
                    world.tell(getattr(world, name), action, **options)
                case "ask":
                    name, action, timeout_s = arguments
                    scopes.append(trio.CancelScope())
                    nursery.start_soon(world.ask, getattr(world, name), action, timeout_s, scopes[-1])
                case "cancel an ask":
                    if scopes:
                        scopes[number % len(scopes)].cancel()
                case "sleep":
                    await trio.sleep(arguments[0])
                case "stop":
                    if arguments[0] in {child.address.name for child in world.tree.children}:
                        await world.tree.stop_child(arguments[0])
                case "start":
                    if arguments[0] not in {child.address.name for child in world.tree.children}:
                        await world.tree.start_child(world.children[arguments[0]])
            if number % 2:
                await trio.testing.wait_all_tasks_blocked()
            world.check()
        await trio.sleep(10)
        world.tree.address.tell(Stop(), system=True)
    # -- the books, when all is over
    world.check()
    for address in (world.plain, world.machine):
        statistics = address.statistics()
        assert (statistics.depth, statistics.system_depth, statistics.held) == (0, 0, "")
        assert not address._kept
    assert None not in world.asks.values(), "an asker was left waiting"
    answers = [env.msg for env in world.probe._user]
    numbers = [msg.msg.number if isinstance(msg, Failed) else msg.number for msg in answers]
    assert sorted(numbers) == sorted(world.told_with_reply_to), "reply_to is told exactly once"
    assert {i.state for i in inspect_tree(world.tree).walk()} <= {"stopped", "down", "idle"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(Strategy)), st.lists(step, max_size=40))
def test_every_message_is_handled_or_a_dead_letter_and_answered_at_most_once(strategy, program):
    trio.run(run_program, strategy, program, clock=trio.testing.MockClock(autojump_threshold=0))
