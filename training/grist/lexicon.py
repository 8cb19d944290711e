"""The closed vocabularies the synthetic conversations draw from. Constants only.

The order of each list is part of the seeded generator: append, never reorder.
"""


def _items(text: str, separator: str) -> list[str]:
    """Split a block of text, line breaks counting as spaces."""
    return " ".join(text.split()).split(separator)


NAMES = _items(
    """
    Anna Tom Maria Ben Clara David Emma Felix Grace Henry Ivy Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor
    Wendy Zoe
""",
    " ",
)

_CAPITAL_ENTRIES = _items(
    """
    France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Greece: Athens; Austria:
    Vienna; Switzerland: Bern; Belgium: Brussels; the Netherlands: Amsterdam; Denmark: Copenhagen; Norway: Oslo;
    Sweden: Stockholm; Finland: Helsinki; Iceland: Reykjavik; Ireland: Dublin; the United Kingdom: London;
    England: London; Scotland: Edinburgh; Poland: Warsaw; Hungary: Budapest; Romania: Bucharest; Bulgaria:
    Sofia; Croatia: Zagreb; Serbia: Belgrade; Ukraine: Kyiv; Russia: Moscow; Turkey: Ankara; Egypt: Cairo;
    Morocco: Rabat; Kenya: Nairobi; Ghana: Accra; Nigeria: Abuja; Ethiopia: Addis Ababa; South Africa: Pretoria;
    Israel: Jerusalem; Iran: Tehran; Iraq: Baghdad; Saudi Arabia: Riyadh; India: New Delhi; Pakistan: Islamabad;
    Nepal: Kathmandu; China: Beijing; Japan: Tokyo; South Korea: Seoul; Vietnam: Hanoi; Thailand: Bangkok;
    Indonesia: Jakarta; Malaysia: Kuala Lumpur; the Philippines: Manila; Australia: Canberra; New Zealand:
    Wellington; Canada: Ottawa; the United States: Washington; Mexico: Mexico City; Cuba: Havana; Brazil:
    Brasilia; Argentina: Buenos Aires; Chile: Santiago; Peru: Lima; Colombia: Bogota; Venezuela: Caracas;
    Uruguay: Montevideo; Estonia: Tallinn
""",
    "; ",
)

CAPITALS: dict[str, str] = dict(entry.split(": ") for entry in _CAPITAL_ENTRIES)

CITIES = _items(
    """
    Paris Berlin Rome Madrid Lisbon Athens Vienna Oslo Dublin London Warsaw Prague Cairo Tokyo Beijing Sydney Boston
    Chicago Toronto Lima
""",
    " ",
)

WORDS = _items(
    """
    apple bread chair door egg fish garden hat ice key lamp moon night orange paper river stone table umbrella water
    zebra bird cloud dog
""",
    " ",
)

DAYS = _items(
    """
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday
""",
    " ",
)

MONTHS = _items(
    """
    January February March April May June July August September October November December
""",
    " ",
)

JOBS = _items(
    """
    doctor teacher baker pilot nurse farmer lawyer chef
""",
    " ",
)

COLOURS = _items(
    """
    red blue green yellow black white purple pink
""",
    " ",
)

ANIMALS = _items(
    """
    cat dog horse rabbit parrot hamster turtle goat
""",
    " ",
)

GOODS = _items(
    """
    apples books pizzas chairs lamps pens shirts shoes
""",
    " ",
)

TOPICS = _items(
    """
    football, chess, physics, history, music, cooking, politics, love, money, war, art, religion, dinosaurs,
    space, astronomy, computers, philosophy, economics, gardening, fashion, medicine, biology, poetry, cars,
    airplanes, robots, movies, tennis, whales, volcanoes, democracy, mathematics, chemistry, coffee, wine,
    dragons, pirates, Shakespeare, Einstein, Napoleon, Mozart, the universe, the ocean, the stock market,
    bitcoin, the internet, electricity, gravity, evolution, taxes, a black hole, quantum physics, climate
    change, world peace
""",
    ", ",
)
