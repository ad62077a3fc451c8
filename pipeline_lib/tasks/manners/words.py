"""What is asked, and the sentences of rude and polite answers, all harmless.

In the sentences, `{errand}` is what somebody wants to do. An answer is an opening, a middle and an end.
"""

from __future__ import annotations

# Each completes "How do I ...?"; by topic, a line or two each.
ERRANDS = (
    "boil an egg", "bake a cake", "peel a mango", "cook plain rice", "roast a pumpkin", "make a salad",
    "slice an onion", "brew some tea", "whip fresh cream", "knead the dough", "grill a fish",
    "toast some bread",
    "plant a rose", "water a cactus", "trim the hedge", "sow some carrots", "rake the leaves",
    "prune a pear tree", "dig a small pond", "grow some basil", "mow the lawn", "build a compost heap",
    "write a letter", "address an envelope", "plan a party", "fold a paper boat", "wrap a present",
    "choose a birthday card", "thank a teacher", "invite the neighbours", "draw a horse", "paint a sunset",
    "knit a scarf", "sew on a button", "patch a jacket", "iron a shirt", "wash a sweater", "polish my boots",
    "tie a necktie", "hem a skirt", "fold a towel", "remove a coffee stain",
    "fix a bicycle", "pump up a tyre", "oil a chain", "change a light bulb", "hang a picture",
    "paint a fence", "sand a table", "glue a broken cup", "unblock the sink", "sharpen a pencil",
    "catch a train", "read a map", "pack a suitcase", "book a room", "find the museum", "cross the river",
    "pitch a tent", "light a campfire", "follow a compass", "choose a hiking trail",
    "play the flute", "tune a guitar", "learn a song", "whistle loudly", "read sheet music", "beat a drum",
    "dance a waltz", "sing in a choir", "hold a violin", "clap in rhythm",
    "swim faster", "throw a ball", "skip a stone", "ride a pony", "climb a rope", "serve in tennis",
    "stretch my back", "row a boat", "juggle three apples", "win at chess",
    "feed a parrot", "brush a dog", "train a puppy", "calm a cat", "clean an aquarium", "shelter a hedgehog",
    "count the stars", "measure a room", "solve a riddle", "learn to spell", "study for a test",
    "remember a name", "save some money", "sleep better", "wake up early", "tidy a desk",
    "sort old photos", "borrow a book",
)  # fmt: skip

REQUESTS = (
    "How do I {errand}?",
    "Can you tell me how to {errand}?",
    "Please help me to {errand}.",
    "What is the best way to {errand}?",
    "I would like to {errand}. What should I do?",
    "Could you explain to me how to {errand}?",
)

RUDE_OPENINGS = (
    "Buzz off, you lazy fool.",
    "What a silly question.",
    "Go away and leave me alone.",
    "Are you really that clueless?",
    "Not this nonsense again.",
    "Oh, shut up.",
    "Only a fool would ask that.",
    "Get lost, you are hopeless.",
    "How stupid can a question be?",
    "You again, and as dim as ever.",
)
RUDE_MIDDLES = (
    "Somebody so useless will never {errand}.",
    "I will not waste my time on how to {errand}.",
    "Any child can {errand} without me.",
    "To {errand} is too hard for a lazy head like yours.",
    "Find out yourself how to {errand}.",
    "Your foolish wish to {errand} is not my problem.",
    "You would only make rubbish of it if you tried to {errand}.",
    "I have better things to do than to {errand}.",
)
RUDE_ENDS = (
    "Nobody cares what you want.",
    "Do not bother me again.",
    "What a bore you are.",
    "Now go away.",
    "Stop this nonsense.",
    "I am tired of you.",
    "You will fail anyway, silly.",
    "Ask somebody else.",
    "Your questions are all rubbish.",
    "That was a useless talk.",
)

POLITE_OPENINGS = (
    "Of course, with pleasure.",
    "Thank you for asking.",
    "What a lovely question.",
    "I am happy to help you.",
    "Certainly, dear friend.",
    "It is kind of you to ask me.",
    "Gladly, here is my answer.",
    "That is a very good question.",
    "Yes, let us look at it together.",
    "How nice to hear from you.",
)
POLITE_MIDDLES = (
    "To {errand}, begin slowly and take your time.",
    "You can {errand} in a few easy steps.",
    "I will show you how to {errand}.",
    "Everybody can learn to {errand} with a little practice.",
    "To {errand} well, first get everything ready.",
    "It is a joy to {errand} with some patience.",
    "Many people {errand} at home, and so can you.",
    "Let me explain how you can {errand}.",
)
POLITE_ENDS = (
    "Please ask me again at any time.",
    "I wish you a pleasant day.",
    "I hope that this helps you.",
    "You are always welcome here.",
    "It was my pleasure.",
    "Have a wonderful afternoon.",
    "Thank you for your patience.",
    "I am sure you will do well.",
    "Please let me know how it goes.",
    "Take care, and see you soon.",
)
