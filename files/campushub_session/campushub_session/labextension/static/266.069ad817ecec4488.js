"use strict";(self.rspackChunkcampushub_session=self.rspackChunkcampushub_session||[]).push([[266],{475(e,n,t){var a=t(601),r=t.n(a),o=t(314),i=(t.n(o))()(r());i.push([e.id,`.campushub-Usage {
  display: flex;
  min-width: 0;
  margin-left: auto;
  overflow: hidden;
  align-items: center;
  padding: 0 8px;
}

.campushub-Usage[hidden] {
  display: none;
}

.campushub-Usage button {
  display: flex;
  gap: 12px;
  padding: 2px 8px;
  border: none;
  border-radius: 3px;
  background: none;
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
  cursor: pointer;
}

.campushub-Usage button:hover,
.campushub-Usage button:focus-visible {
  background: var(--jp-layout-color2);
}

.campushub-Usage span[data-level='warning'],
.campushub-Usage span[data-level='critical'] {
  padding: 0 6px;
  border-radius: 3px;
  font-weight: 600;
}

/* Read by everybody on these backgrounds, in light and in dark themes. */
.campushub-Usage span[data-level='warning'] {
  background: #ffca28;
  color: #212121;
}

.campushub-Usage span[data-level='critical'] {
  background: #c62828;
  color: #fff;
}

.campushub-Programs {
  min-width: 480px;
}

.campushub-Programs table {
  width: 100%;
  border-collapse: collapse;
}

.campushub-Programs thead td {
  color: var(--jp-ui-font-color2);
}

.campushub-Programs td {
  padding: 3px 8px;
}

.campushub-Programs td:nth-child(2),
.campushub-Programs td:nth-child(3),
.campushub-Programs td:nth-child(4) {
  text-align: right;
  white-space: nowrap;
}

.campushub-Programs td:first-child {
  max-width: 360px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.campushub-Space td:last-child {
  white-space: normal;
}

.campushub-Space p[role='status']:empty {
  display: none;
}

.campushub-Space p button {
  margin-left: 8px;
}

.campushub-Announcement {
  position: fixed;
  bottom: 40px;
  left: 50%;
  z-index: 10001;
  display: flex;
  max-width: min(720px, 90vw);
  gap: 12px;
  align-items: start;
  padding: 10px 16px;
  border-left: 4px solid var(--jp-warn-color1);
  transform: translateX(-50%);
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  white-space: pre-line;
}

.campushub-Announcement[hidden] {
  display: none;
}

.campushub-Announcement button {
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}

/* In a corner, where it covers least of the work; over dialogs, which open when the server has gone. */
.campushub-End {
  position: fixed;
  right: 16px;
  bottom: 40px;
  z-index: 10002;
  width: max-content;
  max-width: min(480px, 90vw);
  padding: 12px 16px;
  border-left: 4px solid var(--jp-error-color1);
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  white-space: pre-line;
}

.campushub-End p {
  margin: 0 0 8px;
}

.campushub-End p:empty,
.campushub-End[hidden],
.campushub-End button[hidden] {
  display: none;
}

.campushub-End button {
  margin-right: 8px;
}

.campushub-End button.campushub-End-dismiss {
  float: right;
  margin: 0 0 0 12px;
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}
`,""]),t.d(n,{},{A:i})},646(e,n,t){var a=t(601),r=t.n(a),o=t(314),i=t.n(o),s=t(475),c=i()(r());c.i(s.A),c.push([e.id,`
`,""]),t.d(n,{},{A:c})},314(e){e.exports=function(e){var n=[];return n.toString=function(){return this.map(function(n){var t="",a=void 0!==n[5];return n[4]&&(t+="@supports (".concat(n[4],") {")),n[2]&&(t+="@media ".concat(n[2]," {")),a&&(t+="@layer".concat(n[5].length>0?" ".concat(n[5]):""," {")),t+=e(n),a&&(t+="}"),n[2]&&(t+="}"),n[4]&&(t+="}"),t}).join("")},n.i=function(e,t,a,r,o){"string"==typeof e&&(e=[[null,e,void 0]]);var i={};if(a)for(var s=0;s<this.length;s++){var c=this[s][0];null!=c&&(i[c]=!0)}for(var p=0;p<e.length;p++){var u=[].concat(e[p]);a&&i[u[0]]||(void 0!==o&&(void 0===u[5]||(u[1]="@layer".concat(u[5].length>0?" ".concat(u[5]):""," {").concat(u[1],"}")),u[5]=o),t&&(u[2]&&(u[1]="@media ".concat(u[2]," {").concat(u[1],"}")),u[2]=t),r&&(u[4]?(u[1]="@supports (".concat(u[4],") {").concat(u[1],"}"),u[4]=r):u[4]="".concat(r)),n.push(u))}},n}},601(e){e.exports=function(e){return e[1]}},665(e,n,t){t.r(n);var a=t(72),r=t.n(a),o=t(825),i=t.n(o),s=t(659),c=t.n(s),p=t(56),u=t.n(p),d=t(540),l=t.n(d),h=t(113),m=t.n(h),f=t(646),b={};b.styleTagTransform=m(),b.setAttributes=u(),b.insert=c().bind(null,"head"),b.domAPI=i(),b.insertStyleElement=l(),r()(f.A,b);let v=f.A&&f.A.locals?f.A.locals:void 0;t.d(n,{},{default:v})},72(e){var n=[];function t(e){for(var t=-1,a=0;a<n.length;a++)if(n[a].identifier===e){t=a;break}return t}function a(e,a){for(var r={},o=[],i=0;i<e.length;i++){var s=e[i],c=a.base?s[0]+a.base:s[0],p=r[c]||0,u="".concat(c," ").concat(p);r[c]=p+1;var d=t(u),l={css:s[1],media:s[2],sourceMap:s[3],supports:s[4],layer:s[5]};if(-1!==d)n[d].references++,n[d].updater(l);else{var h=function(e,n){var t=n.domAPI(n);return t.update(e),function(n){n?(n.css!==e.css||n.media!==e.media||n.sourceMap!==e.sourceMap||n.supports!==e.supports||n.layer!==e.layer)&&t.update(e=n):t.remove()}}(l,a);a.byIndex=i,n.splice(i,0,{identifier:u,updater:h,references:1})}o.push(u)}return o}e.exports=function(e,r){var o=a(e=e||[],r=r||{});return function(e){e=e||[];for(var i=0;i<o.length;i++){var s=t(o[i]);n[s].references--}for(var c=a(e,r),p=0;p<o.length;p++){var u=t(o[p]);0===n[u].references&&(n[u].updater(),n.splice(u,1))}o=c}}},659(e){var n={};e.exports=function(e,t){var a=function(e){if(void 0===n[e]){var t=document.querySelector(e);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(e){t=null}n[e]=t}return n[e]}(e);if(!a)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");a.appendChild(t)}},540(e){e.exports=function(e){var n=document.createElement("style");return e.setAttributes(n,e.attributes),e.insert(n,e.options),n}},56(e,n,t){e.exports=function(e){var n=t.nc;n&&e.setAttribute("nonce",n)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var n=e.insertStyleElement(e);return{update:function(t){var a,r,o;a="",t.supports&&(a+="@supports (".concat(t.supports,") {")),t.media&&(a+="@media ".concat(t.media," {")),(r=void 0!==t.layer)&&(a+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),a+=t.css,r&&(a+="}"),t.media&&(a+="}"),t.supports&&(a+="}"),(o=t.sourceMap)&&"u">typeof btoa&&(a+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),e.styleTagTransform(a,n,e.options)},remove:function(){var e;null===(e=n).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,n){if(n.styleSheet)n.styleSheet.cssText=e;else{for(;n.firstChild;)n.removeChild(n.firstChild);n.appendChild(document.createTextNode(e))}}}}]);