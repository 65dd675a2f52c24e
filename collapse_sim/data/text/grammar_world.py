"""The productions of the grammars: stories of animals, and reports from a village with their headlines.

A line is `Left: right | right | ...`. An alternative that begins with a number has that probability. Others are ranked,
and follow Zipf's law: the r-th has a probability proportional to r^-tail. `@name=value` at the end is a fact that the
alternative states (data/text/pcfg.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from collapse_sim.data.text.pcfg import Grammar, Production

FORM = re.compile(r"(0\.\d+)?([^@]*)(?:@(\S+))?")  # of an alternative: probability, words and nonterminals, fact
NO_SHARES: Mapping[str, float] = {}

# Nested repetitions: the ending refers to the trait; within that the name is repeated, and within that a found thing.
STORY = """
Story: Once there was a <Hero> | Long ago lived a <Hero> | Far away lived a <Hero> | There once was a <Hero> \
    | Nearby lived a <Hero> | This is about a <Hero>
Hero: small <Animal> <Small> | shy <Animal> <Shy> | brave <Animal> <Brave> | curious <Animal> <Curious> \
    | lazy <Animal> <Lazy> | hungry <Animal> <Hungry> | lonely <Animal> <Lonely> | proud <Animal> <Proud> \
    | clumsy <Animal> <Clumsy> | grumpy <Animal> <Grumpy>
Animal: fox called <Fox> | rabbit called <Rabbit> | duck called <Duck> | bear called <Bear> | mouse called <Mouse> \
    | otter called <Otter> | hedgehog called <Hedgehog>

Day: morning | day | evening | spring morning | rainy day | summer night | windy afternoon | foggy evening | winter day
Went: went | walked | ran | hurried | wandered | crept
WoodPlace: hill and <Hill> | river and <River> | meadow and <Meadow> | village and <Village> | mill and <Mill> \
    | beach and <Beach>
FieldPlace: garden and <Garden> | meadow and <Meadow> | barn and <Barn> | mill and <Mill> | village and <Village> \
    | hill and <Hill>
WaterPlace: river and <River> | beach and <Beach> | mill and <Mill> | meadow and <Meadow> | village and <Village> \
    | garden and <Garden>

Hill: found a <HillThing> | met a <LandFriend> | rolled in the flowers . | saw the sea . | watched the clouds .
River: met a <WaterFriend> | found a <RiverThing> | threw stones . | swam in the sun . | built a raft .
Meadow: met a <LandFriend> | picked flowers . | found a <MeadowThing> | slept in the sun . | chased the bees .
Village: found a <VillageThing> | bought a bun . | met a <LandFriend> | danced all day . | heard a song .
Mill: helped the miller . | found a <MillThing> | got white with flour . | met a <LandFriend> | rode on the wheel .
Beach: found a <BeachThing> | built a castle . | met a <WaterFriend> | waved to a ship . | saw a whale .
Garden: picked plums . | met a <LandFriend> | found a <GardenThing> | planted a bean . | hid from the rain .
Barn: jumped in the hay . | met a <LandFriend> | found a <BarnThing> | counted the hens . | woke the cow .

HillThing: kite . The kite <Toy> | feather . The feather <Treasure> | whistle . The whistle <Toy>
RiverThing: boat . The boat <Toy> | net . The net <Tool> | pebble . The pebble <Treasure>
MeadowThing: ball . The ball <Toy> | basket . The basket <Tool> | ribbon . The ribbon <Treasure>
VillageThing: coin . The coin <Treasure> | hat . The hat <Tool> | drum . The drum <Toy>
MillThing: key . The key <Tool> | lantern . The lantern <Tool> | marble . The marble <Treasure>
BeachThing: shell . The shell <Treasure> | bottle . The bottle <Tool> | pearl . The pearl <Treasure>
GardenThing: spade . The spade <Tool> | ball . The ball <Toy> | bell . The bell <Treasure>
BarnThing: rope . The rope <Tool> | lantern . The lantern <Tool> | drum . The drum <Toy>
Toy: was great fun . | made everyone laugh . | soon broke .
Treasure: shone like gold . | became a gift . | stayed a secret .
Tool: was still useful . | found its owner . | belonged to giants .
LandFriend: squirrel . The squirrel <Friend> | goat . The goat <Friend> | crow . The crow <Friend> \
    | snail . The snail <Friend> | donkey . The donkey <Friend>
WaterFriend: frog . The frog <Friend> | swan . The swan <Friend> | turtle . The turtle <Friend> \
    | crab . The crab <Friend>
Friend: told a story . | sang a song . | shared a bun . | was lost . | knew a riddle .

Then: At last | That night | Back home | Ever after | Soon
Small: felt big and strong . | grew a little . | was small no more .
Shy: said hello to everyone . | was shy no more . | dared to sing .
Brave: was a hero . | told everyone a story . | feared only thunder .
Curious: asked a hundred questions . | knew a little more . | drew a map .
Lazy: fell asleep . | swept the house . | worked all night .
Hungry: was full and happy . | ate a second supper . | licked the spoon .
Lonely: had a friend . | was lonely no more . | wrote a letter .
Proud: said sorry . | thanked everyone . | was proud no more .
Clumsy: tripped and laughed . | broke a cup . | walked on tiptoe .
Grumpy: smiled at everyone . | was grumpy no more . | hummed a song .
"""

# For each animal: where it goes, names, homes, suppers.
ANIMALS: Mapping[str, tuple[str, str, str, str]] = {
    "Fox": ("Wood", "Pip | Rusty | Ember", "cave | hollow tree | log", "soup | berries | cheese"),
    "Rabbit": ("Field", "Clover | Daisy | Thistle", "burrow | haystack", "carrots | soup | peas"),
    "Duck": ("Water", "Dot | Puddle | Nell", "nest | boat", "bread | peas | fish"),
    "Bear": ("Wood", "Bruno | Otto | Bea", "cave | hollow tree", "honey | berries | fish"),
    "Mouse": ("Field", "Tilly | Crumb | Nib", "shoe | burrow", "cheese | bread | nuts"),
    "Otter": ("Water", "Ollie | Brook | Finn", "nest | log", "fish | soup | berries"),
    "Hedgehog": ("Wood", "Bramble | Hazel | Prickle", "haystack | log", "mushrooms | nuts | carrots"),
}

# Facts that a headline may mention: who, deed, place, day and outcome; and sentences that no headline mentions.
REPORT = """
Report: <Weather> On <Day> the <Who>
Weather: 0.5 | 0.2 It had rained all night . | 0.15 The sun was out . | 0.1 Snow lay on the roofs . \
    | 0.05 Fog hid the hills .
Day: Monday @day=Monday | Friday @day=Friday | Sunday @day=Sunday | Tuesday @day=Tuesday | Saturday @day=Saturday
Where: near the church @place=church | at the mill @place=mill | beside the lake @place=lake \
    | behind the inn @place=inn | in the market @place=market | under the oak @place=oak
Bystander: 0.3 | 0.7 The <Bystanders>
Bystanders: cook watched from a window . | tailor was asleep . | smith lost a hat . | nurse made soup for all . \
    | mayor sold two goats . | sailor sang near the well .
Outcome: 0.4 @outcome=none | 0.3 Later the mayor gave a medal . @outcome=medal \
    | 0.15 Then a party followed . @outcome=party \
    | 0.1 Someone read a poem . @outcome=poem | 0.05 Nobody said a word . @outcome=silence
"""

WHO: Mapping[str, str] = {  # and their deeds, by rank
    "baker": "cake dog ring pie song",
    "farmer": "lamb trees pie dog cake",
    "teacher": "school song trees owl dog",
    "miller": "bridge boat lamb ring fish",
    "fisher": "fish boat dog song bridge",
    "doctor": "dog owl lamb pie ring",
    "shepherd": "lamb owl song dog trees",
    "postman": "ring dog owl bridge school",
}

# For each deed: the report's sentence, details of the report, active headlines, passive headlines.
DEEDS: Mapping[str, tuple[str, str, str, str]] = {
    "dog": (
        "found a lost dog",
        "The dog: was cold and wet . | barked with joy . | had no collar .",
        "finds lost dog | discovers lost dog | rescues lost dog",
        "Lost dog found | Missing dog found",
    ),
    "lamb": (
        "saved a lamb from the flood",
        "The lamb: is safe now . | slept by a stove . | drank warm milk .",
        "saves lamb | rescues lamb | pulls lamb from flood",
        "Lamb saved | Drowning lamb saved",
    ),
    "cake": (
        "baked a huge cake",
        "The cake: was gone by noon . | had nine layers . | tasted of lemon .",
        "bakes huge cake | makes huge cake | shows giant cake",
        "Huge cake baked | Giant cake baked",
    ),
    "fish": (
        "caught a giant fish",
        "The fish: fed forty people . | broke the line twice . | was let go again .",
        "catches giant fish | lands giant fish | hooks monster",
        "Giant fish caught | Monster caught",
    ),
    "bridge": (
        "mended the old bridge",
        "The work: took three days . | was hard . | cost nothing .",
        "mends old bridge | repairs old bridge | saves bridge",
        "Old bridge mended | Bridge repaired",
    ),
    "school": (
        "painted the school red",
        "The paint: is still wet . | was a present . | ran out twice .",
        "paints school red | brightens school | gives school new coat",
        "School painted red | Whole school painted red",
    ),
    "ring": (
        "lost a golden ring",
        "The ring: was a present . | slid into the grass . | has a green stone .",
        "loses golden ring | misses golden ring | mourns ring",
        "Golden ring lost | Precious ring lost",
    ),
    "trees": (
        "planted a hundred trees",
        "The trees: are still small . | will give fruit . | came by boat .",
        "plants hundred trees | starts orchard | greens village",
        "Hundred trees planted | Orchard planted",
    ),
    "pie": (
        "won the pie contest",
        "The pie: was full of plums . | had a golden crust . | beat nine others .",
        "wins pie contest | takes prize for pie | triumphs with pie",
        "Pie contest won | First prize for pie won",
    ),
    "boat": (
        "built a new boat",
        "The boat: is painted blue . | took all winter . | leaks a little .",
        "builds new boat | finishes boat | launches boat",
        "New boat built | Boat launched",
    ),
    "song": (
        "wrote a merry song",
        "The song: has ten verses . | is about rain . | made people cry .",
        "writes merry song | composes song | pens song",
        "Merry song written | Song written",
    ),
    "owl": (
        "freed a trapped owl",
        "The owl: flew off at once . | had a hurt wing . | bit a thumb .",
        "frees trapped owl | releases owl | helps owl",
        "Trapped owl freed | Owl freed",
    ),
}

HEADLINE = """
Headline: 0.7 <Actor> <Active> <Place> <When> <Result> . | 0.3 <Passive> <Agent> <Place> <When> <Result> .
Agent: 0.35 | 0.65 by <Who>
Place: 0.55 | 0.45 <Where>
Where: near church @place=church | at mill @place=mill | beside lake @place=lake \
    | behind inn @place=inn | in market @place=market | under oak @place=oak
When: 0.7 | 0.3 on <Day>
Day: Monday @day=Monday | Friday @day=Friday | Sunday @day=Sunday | Tuesday @day=Tuesday | Saturday @day=Saturday
Result: @outcome=none | <Medal> @outcome=medal | <Party> @outcome=party | <Poem> @outcome=poem \
    | <Silence> @outcome=silence
Medal: 0.4 | 0.6 , <MedalNews>
MedalNews: gets medal | mayor gives medal | village proud
Party: 0.5 | 0.5 , <PartyNews>
PartyNews: party follows | village celebrates
Poem: 0.6 | 0.4 , <PoemNews>
PoemNews: poem read | poet moved
Silence: 0.7 | 0.3 , nobody cheers
"""


@lru_cache(maxsize=8)
def story(tail: float) -> Grammar:
    """Stories of animals; `tail` is the exponent of Zipf's law."""
    text = STORY
    for animal, (region, names, homes, suppers) in ANIMALS.items():
        tales = (
            f"{name} . <{animal}Home> One <Day> {name} <Went> to the <{region}Place> <{animal}Supper> <Then> {name}"
            for name in names.split(" | ")
        )
        text += f"{animal}: {' | '.join(tales)}\n"
        text += f"{animal}Home: 0.5 | 0.5 Home was a <{animal}House> .\n{animal}House: {homes}\n"
        text += f"{animal}Supper: 0.5 | 0.5 Supper was <{animal}Food> .\n{animal}Food: {suppers}\n"
    return Grammar(productions(text, tail))


@lru_cache(maxsize=8)
def pairs(tail: float) -> tuple[Grammar, Grammar]:
    """Reports from a village and their headlines, with a common vocabulary. A report states one fact of each kind: who,
    deed, place, day, outcome. The facts decide what a headline says; its wording and what it omits are random."""
    reports = productions(_report(), tail)
    shares: Counter[str] = Counter()
    source = Grammar(reports)
    for production, use in zip(reports, source.uses.tolist(), strict=True):
        if production.fact:
            shares[production.fact] += use
    target = Grammar(productions(_headline(), tail, shares), facts_choose=True, words=source.words)
    return Grammar(reports, words=target.words), target


def _report() -> str:
    text = REPORT + f"Who: {' | '.join(f'{who} <{who}> @who={who}' for who in WHO)}\n"
    for who, deeds in WHO.items():
        tales = (f"{DEEDS[deed][0]} <Where> . <{deed}> <Bystander> <Outcome> @deed={deed}" for deed in deeds.split())
        text += f"{who}: {' | '.join(tales)}\n"
    for deed, (_, details, _, _) in DEEDS.items():
        subject, _, predicates = details.partition(":")
        text += f"{deed}: {subject} <{deed}-more>\n{deed}-more: {predicates}\n"
    return text


def _headline() -> str:
    text = HEADLINE
    for left, right in (("Who", "{}"), ("Actor", "<{}>")):
        text += f"{left}: {' | '.join(f'{right.format(who)} @who={who}' for who in WHO)}\n"
    text += "".join(f"{who}: {who.title()} | Local {who} | Village {who}\n" for who in WHO)
    for left, end in (("Active", "does"), ("Passive", "done")):
        text += f"{left}: {' | '.join(f'<{deed}-{end}> @deed={deed}' for deed in DEEDS)}\n"
    for deed, (_, _, does, done) in DEEDS.items():
        text += f"{deed}-does: {does}\n{deed}-done: {done}\n"
    return text


def productions(text: str, tail: float, shares: Mapping[str, float] = NO_SHARES) -> list[Production]:
    """Parses lines of productions, as above. Facts in `shares` get that probability, whatever their rank."""
    rules = []
    for line in filter(None, text.splitlines()):
        left, _, rights = line.partition(":")
        alternatives = [right.strip() for right in rights.split("|")]
        zipf = [rank**-tail for rank in range(1, len(alternatives) + 1)]
        for alternative, weight in zip(alternatives, zipf, strict=True):
            stated, words, fact = FORM.fullmatch(alternative).groups(default="")  # type: ignore[union-attr]
            probability = shares.get(fact) or float(stated or weight / sum(zipf))
            rules.append(Production(left, tuple(words.split()), probability, fact))
    return rules
