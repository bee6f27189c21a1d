// The gallery: buttons of a block of samples, and the chosen one with its adversarials. A block is unpacked when it is
// first asked for (gallery.py says how it is packed).

document.addEventListener("DOMContentLoaded", () => {
  const data = document.getElementById("gallery-data");
  if (data) openGallery(JSON.parse(data.textContent));
});

function openGallery(index) {
  const [channels, height, width] = index.shape;
  const pixels = height * width;
  const values = channels * pixels;
  const called = (label) => index.classes[label] ?? label;
  const element = (id) => document.getElementById(id);
  const [blocks, defenses, grid] = ["block", "defense", "samples"].map(element);
  let samples = [];
  let chosen = 0;

  async function unpack(block) {
    const text = element(`block-${block}`).textContent;
    const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = await new Response(stream).arrayBuffer();
    const length = new DataView(bytes).getUint32(0, true);
    const unpacked = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    let offset = 4 + length;
    for (const sample of unpacked) {
      sample.clean = new Uint8Array(bytes, offset, values);
      offset += values;
      for (const row of sample.rows) {
        Object.assign(row, index.matches[row.match]);
        if (row.scale === undefined) continue;
        row.difference = new Int8Array(bytes, offset, values);
        offset += values;
      }
    }
    return unpacked;
  }

  async function showBlock() {
    const block = blocks.value;
    const unpacked = await unpack(block);
    if (block !== blocks.value) return; // another one was asked for meanwhile
    samples = unpacked;
    grid.replaceChildren(
      ...samples.map((sample, place) => {
        const button = make("button", { type: "button", tabIndex: -1, title: `sample ${sample.sample}` });
        button.append(image(light(sample.clean), `sample ${sample.sample}, a ${called(sample.label)}`));
        button.addEventListener("click", () => choose(place));
        return button;
      }),
    );
    element("previous").disabled = blocks.selectedIndex === 0;
    element("next").disabled = blocks.selectedIndex === blocks.length - 1;
    choose(0);
  }

  function choose(place) {
    grid.children[chosen]?.removeAttribute("aria-pressed");
    for (const button of grid.children) button.tabIndex = -1;
    chosen = place;
    grid.children[place].setAttribute("aria-pressed", "true");
    grid.children[place].tabIndex = 0;
    showSample();
  }

  function showSample() {
    const sample = samples[chosen];
    element("sample-name").textContent = `Sample ${sample.sample}, label ${called(sample.label)}`;
    const clean = make("figure", { className: "clean" });
    clean.append(image(light(sample.clean), "the clean image"), make("figcaption", {}, "clean"));
    const norms = make("div", { className: "norms" });
    const sections = Object.keys(index.norms).map((norm) => showNorm(sample, defenses.value, norm));
    norms.append(...sections.filter(Boolean));
    element("sample-images").replaceChildren(clean, norms);
  }

  function showNorm(sample, defense, norm) {
    const rows = sample.rows.filter((row) => row.defense === defense && row.norm === norm);
    if (!rows.length) return null;
    const bound = sample.bounds.find(([of, own]) => of === defense && own === norm);
    const heading = make("h4", {}, index.norms[norm]);
    heading.append(" ", make("small", {}, bound ? `lower bound ${short(bound[2])} (${bound[3]})` : "no lower bound stored"));
    const found = rows.filter((row) => row.difference).sort((a, b) => a.distance - b.distance);
    const figures = make("div", { className: "adversarials" });
    figures.append(...found.map((row, place) => adversarial(sample, row, place === 0)));
    const others = new Map();
    for (const row of rows.filter((row) => !row.difference)) {
      const status = row.status === "misclassified" ? `taken for a ${called(row.to)} without any perturbation` : row.status;
      others.set(status, [...(others.get(status) ?? []), row.attack]);
    }
    const section = make("section");
    section.append(heading, figures);
    for (const [status, attacks] of others) {
      section.append(make("p", { className: "others" }, `${status.replace("_", " ")}: ${attacks.join(", ")}`));
    }
    return section;
  }

  function adversarial(sample, row, closest) {
    const step = row.scale / index.levels;
    const perturbed = sample.clean.map((value, i) => Math.min(255, Math.max(0, value + 255 * step * row.difference[i])));
    const figure = make("figure", { className: closest ? "closest" : "" });
    const signs = [...row.difference].map((value) => value / index.levels);
    const caption = make("figcaption");
    const about = [
      `${short(row.distance)}${closest ? ", closest" : ""}; ${called(row.from)} \u2192 ${called(row.to)}`,
      `${row.queries} queries`,
      `difference at most ${short(row.scale)}`,
      ...(row.budget === null ? [] : [`budget ${row.budget}`]),
      ...(row.fragile ? ["fragile: gone once inference converges"] : []),
    ];
    caption.append(make("b", {}, row.attack), ...about.map((line) => make("span", {}, line)));
    figure.append(
      image(light(perturbed), `adversarial of ${row.attack}`),
      image(change(signs), `its difference from the clean image`),
      caption,
    );
    return figure;
  }

  // The color of pixel i: the image's own, and of a difference orange where light was added and blue where it was taken
  // away, or in color each channel by itself around gray.
  const colored = channels === 3;
  const channelsAt = (of, i) => [of[i], of[pixels + i], of[2 * pixels + i]];
  const light = (of) => (i) => (colored ? channelsAt(of, i) : [of[i], of[i], of[i]]);
  const change = (shares) => (i) =>
    colored ? channelsAt(shares, i).map((share) => 128 + 127 * share) : signed(shares[i]);

  function image(color, label) {
    const canvas = make("canvas", { width, height });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const context = canvas.getContext("2d");
    const drawn = context.createImageData(width, height);
    for (let i = 0; i < pixels; i++) drawn.data.set([...color(i), 255], 4 * i);
    context.putImageData(drawn, 0, 0);
    return canvas;
  }

  function move(event) {
    const columns = Math.max(1, getComputedStyle(grid).gridTemplateColumns.split(" ").length);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const place = chosen + steps[event.key];
    if (!(place in samples)) return;
    event.preventDefault();
    choose(place);
    grid.children[place].focus();
  }

  function turn(step) {
    blocks.selectedIndex += step;
    showBlock();
  }

  blocks.addEventListener("change", showBlock);
  defenses.addEventListener("change", showSample);
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));
  grid.addEventListener("keydown", move);
  element("gallery-controls").hidden = false;
  showBlock();
}

function make(tag, properties = {}, text = "") {
  return Object.assign(document.createElement(tag), properties, text ? { textContent: text } : {});
}

const signed = (share) => {
  const full = share > 0 ? [255, 166, 64] : [90, 170, 255];
  return full.map((value) => 24 + (value - 24) * Math.abs(share));
};

const short = (value) => String(Number(value.toPrecision(3)));
