// Light or dark, before the first paint: as the system has it, unless the reader chose.
{
  const chosen = localStorage.getItem("pagemill.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
