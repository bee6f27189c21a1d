// The slider below each chart, or the pointer on it, moves a line along the distances; the legend reads the values there.

const charts = JSON.parse(document.getElementById("curves-data").textContent);

document.querySelectorAll("figure.chart").forEach((figure, place) => {
  const chart = charts[place];
  const slider = figure.querySelector("input");
  const svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const plot = svg.querySelector(".plot");
  const rows = figure.querySelectorAll("tbody tr");

  function read() {
    const point = Number(slider.value);
    const distance = ((point * chart.epsilon) / chart.points_per_epsilon).toPrecision(3) / 1;
    figure.querySelectorAll(".at").forEach((text) => (text.textContent = distance));
    slider.setAttribute("aria-valuetext", `distance ${distance}`);
    cursor.setAttribute("transform", `translate(${(point / (chart.points - 1)) * plot.getAttribute("width")} 0)`);
    rows.forEach((row, i) => {
      const { accuracies, low, high, bounds } = chart.curves[i];
      row.querySelector(".accuracy").textContent = percent(accuracies[point]);
      row.querySelector(".interval").textContent = `[${(100 * low[point]).toFixed(0)}, ${(100 * high[point]).toFixed(0)}]`;
      if (bounds) row.querySelector(".bound").textContent = percent(bounds[point]);
    });
  }

  svg.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    slider.value = Math.round(share * (chart.points - 1));
    read();
  });
  slider.addEventListener("input", read);
  slider.hidden = false;
});

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}
