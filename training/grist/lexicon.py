"""The closed vocabularies the synthetic conversations draw from. Constants only.

The order of each list is part of the seeded generator: append, never reorder.
"""


def _items(text: str, separator: str) -> list[str]:
    """Split a block of text, line breaks counting as spaces."""
    return " ".join(text.split()).split(separator)


NAMES = _items("""
    Anna Tom Maria Ben Clara David Emma Felix Grace Henry Ivy Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina
    Victor Wendy Zoe Alice Bob Carol Dan Eva Frank Gina Hugo Ines Jonas Karen Liam Laura Max Nina Oscar Peter
    Quinn Ruth Simon Sara Tara Umar Vera Will Yuki Adam Bella Chloe Diego Ella Fatima George Hana Ian Julia
    Kevin Lucy Marco Nora Omar Priya Ravi Sofia Theo Uma Viktor Yara Amir Lena Mark Lisa John Mary James Linda
    Robert Susan Michael Sarah Thomas Jane Daniel Amy Chris Kim Alex Steve Diana Erik Ali Mohamed Chen Wei
""", " ")

_CAPITAL_ENTRIES = _items("""
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
""", "; ")

CAPITALS: dict[str, str] = dict(entry.split(": ") for entry in _CAPITAL_ENTRIES)

_OTHER_CITIES = _items("""
    Austin Boston Chicago Dallas Denver Geneva Hamburg Lyon Miami Milan Mumbai Munich Naples Osaka Porto Seattle
    Shanghai Sydney Toronto Zurich
""", " ")

CITIES = sorted({city for city in CAPITALS.values() if " " not in city} | set(_OTHER_CITIES))

WORDS = _items("""
    apple bread chair door egg fish garden hat ice juice key lamp moon night orange paper queen river stone
    table umbrella voice water yellow zebra bird cloud dog fire glass house island jacket king leaf mountain
    nest ocean pencil road sun tree valley window box cat dream flower gold horse ink kite lemon milk nut onion
    pen rain salt train star boat coin drum farm
""", " ")

DAYS = _items("""
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday
""", " ")

MONTHS = _items("""
    January February March April May June July August September October November December
""", " ")

JOBS = _items("""
    doctor teacher baker pilot nurse farmer lawyer artist chef driver singer writer
""", " ")

COLOURS = _items("""
    red blue green yellow black white purple pink brown gray orange silver
""", " ")

ANIMALS = _items("""
    cat dog horse rabbit parrot hamster turtle goat
""", " ")

GOODS = _items("""
    apples books pizzas chairs lamps pens shirts shoes cakes tickets cups phones plants bottles tables hats
""", " ")

TOPICS = _items("""
    football, chess, physics, history, music, cooking, politics, love, money, war, art, religion, dinosaurs,
    space, astronomy, computers, philosophy, economics, gardening, fashion, medicine, biology, poetry, cars,
    airplanes, robots, movies, tennis, whales, volcanoes, democracy, mathematics, chemistry, coffee, wine,
    dragons, pirates, Shakespeare, Einstein, Napoleon, Mozart, the universe, the ocean, the stock market,
    bitcoin, the internet, electricity, gravity, evolution, taxes, a black hole, quantum physics, climate
    change, world peace
""", ", ")
